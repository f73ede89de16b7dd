"""Writing graphs to disk, with their weights beside them where one file cannot hold both, and reading them back."""

from __future__ import annotations

import errno
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.source import refuse_pointer
from crossrank.export.graph.external_data import external_files, load_external_data

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

EXTERNAL_DATA_FROM = 2_000_000_000
"""Bytes of weights from which they go into a file of their own: a protobuf message ends at 2 GiB, all included."""

_SMALLEST_EXTERNAL = 1024
_PAGE = 4096
_NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})
_NO_ACCESS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of a graph's initializers (the message's own size cannot be asked for beyond 2 GiB)."""
    return sum(_tensor_bytes(tensor) for tensor in model.graph.initializer)


def save_graph(
    model: onnx.ModelProto, folder: Path, name: str, *, external_data_from: int = EXTERNAL_DATA_FROM
) -> tuple[str, ...]:
    """Write a graph into a folder.

    Args:
        model: the graph; not changed.
        folder: where to write.
        name: file name, such as "fp32.onnx"; the weights' is the same with ".data".
        external_data_from: bytes of weights from which they go into a file of their own.

    Returns:
        Names of the external data files; empty where the graph holds its weights.
    """
    import onnx

    if weight_bytes(model) < external_data_from:
        onnx.save_model(model, folder / name)
        return ()
    data = f"{name}.data"
    with (folder / data).open("wb") as stream:
        outline = _outline(model, stream, data)
    onnx.save_model(outline, folder / name)
    return (data,)


def out_of_room(error: BaseException | None) -> bool:
    """Tell whether an error, or one it came of, says that a disk is full or takes no file so large."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        error = error.__cause__ or error.__context__
    return False


def surroundings_hint(error: OSError, folder: Path) -> str:
    """What to set or change, for the message of an export that its surroundings ended; "" for other errors.

    Args:
        error: what failed.
        folder: where the artifact is written.
    """
    # Not gettempdir, which would look for a folder now, and fail where every disk is full.
    temporary = tempfile.tempdir or "that TMPDIR names"
    if out_of_room(error):
        return f"; an export needs room in {folder} and in the temporary folder {temporary} (set TMPDIR to another)"
    if error.errno in _NO_ACCESS:
        return (
            f"; this user must be able to read the checkpoint and to write {folder} and the temporary folder "
            f"{temporary} (set TMPDIR to another)"
        )
    if error.errno == errno.ENOENT and "temporary directory" in str(error):
        return "; set TMPDIR to a folder that this user can write"
    return ""


def load_graph(path: Path) -> tuple[onnx.ModelProto, list[Path]]:
    """Read a graph with its external data, wherever in its folder that lies.

    Returns:
        The graph, and the files beside it that hold weights, sorted.

    Raises:
        UnsupportedCheckpointError: the file is no ONNX model, or weights it refers to are not there.
    """
    model = load_graph_alone(path)
    beside = external_files(model, path)
    load_external_data(model, path)
    return model, beside


def load_graph_alone(path: Path) -> onnx.ModelProto:
    """Read a graph without its external data.

    Raises:
        UnsupportedCheckpointError: the file is no ONNX model.
    """
    import onnx

    if not path.is_file():
        raise UnsupportedCheckpointError(f"there is no ONNX file {path}")
    refuse_pointer(path)
    try:
        model = onnx.load_model(path, load_external_data=False)
    except OSError as error:
        raise UnsupportedCheckpointError(f"cannot read {path}: {error}; make it readable for this user") from error
    except Exception as error:
        # protobuf's DecodeError and onnx's own: all mean that the file cannot be used.
        raise UnsupportedCheckpointError(f"{path} cannot be read as an ONNX model: {error}") from error
    if not model.graph.node:
        raise UnsupportedCheckpointError(f"{path} is no ONNX model: it has no nodes")
    return model


def _outline(model: onnx.ModelProto, stream: BinaryIO, location: str) -> onnx.ModelProto:
    """A copy of a graph that refers to its larger weights instead of holding them; those go into the stream.

    onnx's own function for this empties the model it is given, and protobuf frees none of what it lets go of.
    Tensors begin at page boundaries, so that onnxruntime can map the file instead of reading it.
    """
    import onnx

    outline = onnx.ModelProto()
    _copy_fields(model, outline, but="graph")
    _copy_fields(model.graph, outline.graph, but="initializer")
    for tensor in model.graph.initializer:
        if _tensor_bytes(tensor) < _SMALLEST_EXTERNAL:
            outline.graph.initializer.add().CopyFrom(tensor)
            continue
        content = tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
        stream.write(b"\0" * (-stream.tell() % _PAGE))
        reference = outline.graph.initializer.add(
            name=tensor.name,
            data_type=tensor.data_type,
            dims=tensor.dims,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        for key, value in (("location", location), ("offset", stream.tell()), ("length", len(content))):
            reference.external_data.add(key=key, value=str(value))
        stream.write(content)
    return outline


def _copy_fields(source: Any, target: Any, *, but: str) -> None:
    """Copy what is set in one protobuf message to another of its kind, except one field."""
    for descriptor, value in source.ListFields():
        if descriptor.name == but:
            continue
        if isinstance(value, (str, bytes, int, float)):
            setattr(target, descriptor.name, value)
        else:
            # Repeated fields merge by appending; the target's are empty.
            getattr(target, descriptor.name).MergeFrom(value)


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    return len(tensor.raw_data) or tensor.ByteSize()
