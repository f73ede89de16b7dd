"""A ready ONNX file, in a repository of the hub or in a folder: which one is taken, and what comes with it."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from crossrank.errors import InvalidInputError, ModelNotFoundError, UnsupportedCheckpointError
from crossrank.export.checkpoint.sentence_transformers import FILES as SENTENCE_TRANSFORMERS_FILES
from crossrank.export.checkpoint.tokenizer import TOKENIZER_NAME
from crossrank.export.dependencies import IMPORT_MODULES, require
from crossrank.export.graph.external_data import check_location, external_locations
from crossrank.export.graph.files import load_graph_alone
from crossrank.export.graph.stored_precision import stored_precision
from crossrank.export.hub.places import Folder, find_repository
from crossrank.models.catalogue import USUAL_ONNX_FILES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossrank.export.hub.places import Place

_BESIDE = (
    *("config.json", TOKENIZER_NAME, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    "README.md",
)


@dataclass(frozen=True)
class ReadyGraph:
    """A ready ONNX file on this machine.

    Attributes:
        file: the graph; its external data lies beside it.
        folder: of its tokenizer and configuration.
        hub_id: the repository it was fetched from; empty for a local folder.
        commit: of that repository; empty for a local folder.
        weights_sha256: the graph and its external data, by their paths in the repository, with their digests.
        files_sha256: the other files that are read, likewise.
    """

    file: Path
    folder: Path
    hub_id: str
    commit: str
    weights_sha256: Mapping[str, str]
    files_sha256: Mapping[str, str]

    @property
    def digests(self) -> dict[str, str]:
        """Every file with its sha256."""
        return {**self.files_sha256, **self.weights_sha256}


def find_ready_graph(
    source: str | Path, file: str | None, *, revision: str | None = None, show_progress: bool = False
) -> ReadyGraph:
    """A ready ONNX file of a folder or a hub repository, fetched if need be.

    Args:
        source: path of a folder, or a hub id. A folder wins.
        file: the file, by its path in the folder or repository; None for the usual one.
        revision: branch, tag or commit of a hub repository; None for its default branch.
        show_progress: show huggingface-hub's progress bars, on a terminal.

    Raises:
        MissingDependencyError: the onnx extra is not installed.
        InvalidInputError: a revision was given for a folder.
        ModelNotFoundError: there is no such repository or file, or it cannot be had.
        UnsupportedCheckpointError: there is no tokenizer.json, or the file is not what it has to be.
        CacheFolderError: huggingface-hub's folder cannot be written.
    """
    require(IMPORT_MODULES, extra="onnx", purpose="importing an ONNX file")
    folder = Path(os.path.expanduser(source))  # noqa: PTH111  Path.expanduser raises where there is no such user
    place: Place
    if folder.is_dir():
        if revision is not None:
            raise InvalidInputError(f"revision {revision!r} was given for the folder {source}; only hub ids have any")
        place = Folder.at(folder)
    else:
        place = find_repository(os.fspath(source), revision, show_progress=show_progress)
    name = choose_file(place, file)
    if name is None:
        raise ModelNotFoundError(
            f"{place.where} has none of {', '.join(USUAL_ONNX_FILES)}; it has {listed_files(place)}"
        )
    return take_ready_graph(place, name, chosen=file is not None)


def choose_file(place: Place, asked: str | None, usual: tuple[str, ...] = ()) -> str | None:
    """The ONNX file to take.

    Args:
        place: the repository or folder.
        asked: what the caller chose; None to take the usual one.
        usual: files to look for before `USUAL_ONNX_FILES`.

    Returns:
        Its path; None where none was chosen and no usual one is there.

    Raises:
        ModelNotFoundError: the chosen file is not there.
    """
    if asked is None:
        return next((name for name in (*usual, *USUAL_ONNX_FILES) if name in place.names), None)
    if asked not in place.names or not asked.endswith(".onnx"):
        raise ModelNotFoundError(f"{place.where} has no ONNX file {asked!r}; it has {listed_files(place)}")
    return asked


def listed_files(place: Place) -> str:
    """The ONNX files of a place, for a message."""
    return ", ".join(sorted(name for name in place.names if name.endswith(".onnx"))[:20]) or "no ONNX file"


def take_ready_graph(place: Place, name: str, *, chosen: bool) -> ReadyGraph:
    """Get an ONNX file with its external data, tokenizer and configuration, and nothing else.

    Args:
        place: the repository or folder.
        name: the file.
        chosen: whether the caller chose it; otherwise it has to be of float32.

    Raises:
        ModelNotFoundError: a file cannot be had, or not with the digest it should have.
        UnsupportedCheckpointError: there is no tokenizer.json, or the file is not what it has to be.
        CacheFolderError: huggingface-hub's folder cannot be written.
    """
    base = _tokenizer_folder(place, name)
    beside = (posixpath.join(base, file) for file in (*_BESIDE, *SENTENCE_TRANSFORMERS_FILES))
    files_sha256 = {file: place.take(file)[1] for file in beside if file in place.names}
    graph, digest = place.take(name)
    weights_sha256 = {name: digest}
    for location in _external_data(place, graph, name, chosen=chosen):
        data = posixpath.join(posixpath.dirname(name), location)
        if data not in place.names:
            raise UnsupportedCheckpointError(f"{place.where} lacks {data}, in which {name} keeps weights")
        weights_sha256[data] = place.take(data)[1]
    root = graph.parents[len(PurePosixPath(name).parts) - 1]
    return ReadyGraph(graph, root / base, place.hub_id, place.commit, weights_sha256, files_sha256)


def _tokenizer_folder(place: Place, file: str) -> str:
    """The folder that has the tokenizer: the root, or the graph's own where the root has none."""
    for base in ("", posixpath.dirname(file)):
        if posixpath.join(base, TOKENIZER_NAME) in place.names:
            return base
    raise UnsupportedCheckpointError(
        f"{place.where} has no {TOKENIZER_NAME}, which a ready ONNX file needs; an export of the checkpoint can make "
        f"one of other tokenizer files: pip install 'crossrank[export]'"
    )


def _external_data(place: Place, graph: Path, name: str, *, chosen: bool) -> list[str]:
    """The files that hold weights of a graph, as it names them.

    Raises:
        UnsupportedCheckpointError: the file is no graph, one lies outside its folder, or the graph is not of float32
            and was not chosen.
    """
    model = load_graph_alone(graph)
    precision = stored_precision(model)
    if precision != "fp32" and not chosen:
        raise UnsupportedCheckpointError(
            f"{name} of {place.where} is stored in {precision}, and only a float32 file is taken unasked; to take this "
            f"one as it is, choose it: file={name!r} (--file {name})"
        )
    locations = external_locations(model)
    for location in locations:
        check_location(location, graph)
    return locations
