"""Weights in files beside an ONNX file: read from its folder, or from the blobs of the hub cache it lies in.

In a cache of the Hugging Face hub every file is a link to `blobs/`, which onnx's own loader refuses, and rightly so for
links anywhere else: a file from a stranger could have any file of this machine read in. So a link is followed where it
ends in the same repository's blobs, and nowhere else.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.source import refuse_pointer
from crossrank.export.graph.tools import subgraphs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx


def load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Read the weights that a graph keeps in other files into it.

    Args:
        model: as loaded without them; changed in place.
        path: the file it was loaded from.

    Raises:
        UnsupportedCheckpointError: a file is missing, too short, outside the folder, or a link out of the hub cache.
    """
    import onnx

    for tensor in _external_tensors(model):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = _inside(path, entries.get("location", ""))
        offset, length = _number(entries, "offset", path), _number(entries, "length", path)
        with file.open("rb") as stream:
            stream.seek(offset or 0)
            content = stream.read(-1 if length is None else length)
        if length is not None and len(content) < length:
            raise UnsupportedCheckpointError(
                f"{path} keeps weights in {file.name}, which ends before byte {(offset or 0) + length}; "
                f"fetch the file again"
            )
        tensor.raw_data = content
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def external_locations(model: onnx.ModelProto) -> list[str]:
    """The files that hold weights of a graph, as it names them, sorted; empty where it holds them all.

    Args:
        model: as loaded without its external data.
    """
    return sorted(
        {
            entry.value
            for tensor in _external_tensors(model)
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )


def external_files(model: onnx.ModelProto, path: Path) -> list[Path]:
    """The files beside a graph that hold weights of it, sorted; empty where it holds them all.

    Args:
        model: as loaded without its external data.
        path: the file it was loaded from.
    """
    return [path.parent / location for location in external_locations(model)]


def check_location(location: str, path: Path) -> None:
    """Make sure that a file of weights lies below its graph's folder, by its name alone.

    Args:
        location: as the graph names it.
        path: the graph.

    Raises:
        UnsupportedCheckpointError: it does not.
    """
    pure = PurePosixPath(location)
    if not location or pure.is_absolute() or ".." in pure.parts or "\\" in location:
        raise UnsupportedCheckpointError(
            f"{path} cannot be read as an ONNX model: it keeps weights in {location!r}, outside its folder"
        )


def _external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    import onnx

    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        nodes = list(graph.node)
        tensors = [*graph.initializer]
        tensors += [attribute.t for node in nodes for attribute in node.attribute if attribute.HasField("t")]
        yield from (tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL)
        waiting += [inner for node in nodes for inner in subgraphs(node)]


def _inside(path: Path, location: str) -> Path:
    """Where a file of weights really lies, checked to be the folder's or the cache's own."""
    check_location(location, path)
    file = path.parent / location
    if not file.exists():
        raise UnsupportedCheckpointError(
            f"{path} cannot be read as an ONNX model: it keeps weights in {location}, and {file} is not there; "
            f"copy or fetch both files"
        )
    real = file.resolve()
    allowed = [path.parent.resolve()]
    blobs = _blobs(path)
    if blobs is not None:
        allowed.append(blobs)
    if not any(real.is_relative_to(folder) for folder in allowed) or not real.is_file():
        raise UnsupportedCheckpointError(
            f"{path} cannot be read as an ONNX model: its weights {file} are a link to {real}, which is neither in its "
            f"folder nor in the hub cache's blobs it belongs to; copy the file there"
        )
    if real.stat().st_nlink > 1 and blobs is None:
        raise UnsupportedCheckpointError(
            f"{path} cannot be read as an ONNX model: its weights {file} have several names on the disk (hard links); "
            f"copy the file"
        )
    refuse_pointer(real)
    return real


def _blobs(path: Path) -> Path | None:
    """The blobs of the hub repository whose snapshot a file lies in; None for a file elsewhere."""
    for folder in path.absolute().parents:
        if folder.parent.name == "snapshots" and (folder.parent.parent / "blobs").is_dir():
            return (folder.parent.parent / "blobs").resolve()
    return None


def _number(entries: dict[str, str], key: str, path: Path) -> int | None:
    text = entries.get(key)
    if text is None:
        return None
    if not text.isdecimal():
        raise UnsupportedCheckpointError(f"{path} cannot be read as an ONNX model: its weights have the {key} {text!r}")
    return int(text)
