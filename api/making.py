"""Making the artifact of a model, once: by the export of its checkpoint, or of a ready ONNX file.

The export of a checkpoint needs torch and is compared with it, so it is preferred where torch is installed; a ready
file is compared with itself alone. Both roads share the cache, its locks and the commit that was first fetched.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.errors import MissingDependencyError, ModelNotFoundError
from crossrank.export_cache import (
    find_hub_export,
    find_local_export,
    find_local_import,
    hub_export,
    known_commit,
    known_digests,
    local_export,
    record_fetch,
)
from crossrank.models.catalogue import USUAL_ONNX_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from crossrank.export.hub.places import Place
    from crossrank.export.hub.ready_graph import ReadyGraph
    from crossrank.export.report import ExportEvent
    from crossrank.models.catalogue import CatalogueEntry
    from crossrank.models.manifest import Precision


@dataclass(frozen=True)
class Wanted:
    """What is to be made of a model.

    Attributes:
        precision: of its graph.
        file: the ready ONNX file to take; None to take the checkpoint if it can be exported, else the usual file.
        positive_label: index or name of the label that means relevant; None to derive it.
        trust_remote_code: let code of the checkpoint run.
        progress: called with the events of the export.
    """

    precision: Precision
    file: str | None
    positive_label: int | str | None
    trust_remote_code: bool
    progress: Callable[[ExportEvent], None] | None


def hub_artifact(
    hub_id: str, revision: str | None, entry: CatalogueEntry | None, wanted: Wanted, *, update: bool
) -> Path:
    """The artifact of a hub repository, from the cache where it is there.

    Args:
        hub_id: the repository.
        revision: branch, tag or commit; None for the default branch.
        entry: what the catalogue says of the repository.
        wanted: what to make.
        update: ask the hub what the revision is now, instead of taking the commit that was first fetched.

    Raises:
        CrossrankError: as `resolve_model`.
    """
    usual = _of_catalogue(entry)
    if not update:
        files = (None, *dict.fromkeys((*usual, *USUAL_ONNX_FILES))) if wanted.file is None else (wanted.file,)
        for file in files:
            cached = find_hub_export(hub_id, revision, wanted.precision, file, wanted.positive_label)
            if cached is not None:
                return cached
    known = None if update else known_commit(hub_id, revision)
    missing = _missing_for_checkpoints() if wanted.file is None else ""
    if wanted.file is None and not missing:
        return _hub_checkpoint(hub_id, revision, known, wanted)
    return _hub_ready_graph(hub_id, revision, known, entry, wanted, missing)


def folder_artifact(folder: Path, wanted: Wanted) -> Path:
    """The artifact of a checkpoint folder, or of a ready ONNX file in a folder, from the cache where it is there.

    Args:
        folder: the checkpoint.
        wanted: what to make.

    Raises:
        CrossrankError: as `resolve_model`.
    """
    missing = ""
    if wanted.file is None:
        entry, made = find_local_export(folder, wanted.precision, wanted.positive_label)
        if made:
            return entry
        missing = _missing_for_checkpoints()
        if not missing:
            return local_export(entry, _checkpoint_maker(str(folder), None, wanted))
    from crossrank.export.hub.places import Folder
    from crossrank.export.hub.ready_graph import take_ready_graph

    place = Folder.at(folder)
    _require_import(folder.name)
    file = _choose(place, wanted, None, missing)
    graph = take_ready_graph(place, file, chosen=wanted.file is not None)
    entry, _ = find_local_import(folder, file, graph.digests, wanted.precision, wanted.positive_label)
    return local_export(entry, lambda out: _import(graph, out, wanted))


def _hub_checkpoint(hub_id: str, revision: str | None, known: str | None, wanted: Wanted) -> Path:
    from crossrank.export.checkpoint.source import find_source

    with _explained(hub_id, known):
        commit = find_source(hub_id, revision=known or revision).revision
    make = _checkpoint_maker(hub_id, commit, wanted)
    return hub_export(hub_id, revision, commit, wanted.precision, make, label=wanted.positive_label)


def _hub_ready_graph(
    hub_id: str, revision: str | None, known: str | None, entry: CatalogueEntry | None, wanted: Wanted, missing: str
) -> Path:
    from crossrank.export.hub.places import find_repository
    from crossrank.export.hub.ready_graph import take_ready_graph

    _require_import(hub_id)
    with _explained(hub_id, known):
        found = find_repository(hub_id, known or revision, show_progress=wanted.progress is not None)
    repository = dataclasses.replace(found, recorded=known_digests(hub_id, found.commit))
    file = _choose(repository, wanted, entry, missing)

    def make(out: Path) -> None:
        graph = take_ready_graph(repository, file, chosen=wanted.file is not None)
        record_fetch(hub_id, revision, repository.commit, graph.digests)
        _import(graph, out, wanted)

    return hub_export(hub_id, revision, repository.commit, wanted.precision, make, file, wanted.positive_label)


@contextlib.contextmanager
def _explained(hub_id: str, known: str | None) -> Iterator[None]:
    """Say of a repository that cannot be had what to do about it."""
    try:
        yield
    except ModelNotFoundError as error:
        first = f" (commit {known} was the first one fetched; 'crossrank pull {hub_id} --update' asks anew)"
        raise ModelNotFoundError(
            f"{hub_id!r} was not exported on this machine yet, and its repository cannot be had: {error}"
            f"{first if known else ''}. Where a network is, run 'crossrank export {hub_id} FOLDER' (with "
            f"--file {USUAL_ONNX_FILES[0]} where no torch is), and give FOLDER as the model here"
        ) from error


def _choose(place: Place, wanted: Wanted, entry: CatalogueEntry | None, missing: str) -> str:
    """The ONNX file to take of a place.

    Raises:
        ModelNotFoundError: it lacks the file asked for.
        MissingDependencyError: none was asked for and the usual ones are not there, so that torch is needed.
    """
    from crossrank.export.hub.ready_graph import choose_file, listed_files

    file = choose_file(place, wanted.file, _of_catalogue(entry))
    if file is not None:
        return file
    if place.partial:
        raise ModelNotFoundError(
            f"{place.where} has no ready ONNX file ({' or '.join(USUAL_ONNX_FILES)}), and the hub is out of reach or "
            "may not be asked (HF_HUB_OFFLINE); "
            f"run 'crossrank pull {place.hub_id}' where a network is, and copy what it says"
        )
    elsewhere = ""
    if entry and entry.onnx and entry.onnx.repository:
        looked_up = "" if entry.onnx.verified else ", which nobody has looked up"
        elsewhere = (
            f"; the catalogue knows of {entry.onnx.file} in somebody else's repository {entry.onnx.repository}"
            f"{looked_up}: name that as the model to take it"
        )
    raise MissingDependencyError(
        f"{place.where} has no ready ONNX file ({' or '.join(USUAL_ONNX_FILES)}; it has {listed_files(place)}), and "
        f"its checkpoint cannot be exported here: {missing}{elsewhere}"
    )


def _of_catalogue(entry: CatalogueEntry | None) -> tuple[str, ...]:
    """The ready file that the catalogue knows of in the model's own repository."""
    return (entry.onnx.file,) if entry and entry.onnx and not entry.onnx.repository else ()


def _missing_for_checkpoints() -> str:
    """Why no checkpoint can be exported here; empty where one can."""
    from crossrank.export.dependencies import require_export

    try:
        require_export(None)
    except MissingDependencyError as error:
        return str(error)
    return ""


def _require_import(model: str) -> None:
    from crossrank.export.dependencies import IMPORT_MODULES, require

    require(IMPORT_MODULES, extra="onnx", purpose=f"importing the ready ONNX file of {model}")


def _checkpoint_maker(checkpoint: str, revision: str | None, wanted: Wanted) -> Callable[[Path], object]:
    def make(out: Path) -> object:
        from crossrank.export import export

        return export(
            checkpoint,
            out,
            precisions=(wanted.precision,),
            revision=revision,
            positive_label=wanted.positive_label,
            trust_remote_code=wanted.trust_remote_code,
            progress=wanted.progress,
        )

    return make


def _import(graph: ReadyGraph, out: Path, wanted: Wanted) -> None:
    from crossrank.export import import_onnx

    import_onnx(
        graph.file,
        graph.folder,
        out,
        precisions=(wanted.precision,),
        positive_label=wanted.positive_label,
        fetched=graph if graph.hub_id else None,
        progress=wanted.progress,
    )
