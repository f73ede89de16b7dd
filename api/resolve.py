"""A model's name to an artifact folder.

A name is, in this order: that of an embedded model (`default`, `default-small`), an artifact folder, a checkpoint
folder, a name of the catalogue, or a hub id. The last three are exported once into the cache, by `making.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.errors import InvalidInputError, ModelNotFoundError
from crossrank.making import Wanted, folder_artifact, hub_artifact
from crossrank.models.artifact import Artifact, is_artifact
from crossrank.models.catalogue import find_entry
from crossrank.models.embedded import EMBEDDED_MODELS, embedded_artifact
from crossrank.models.labels import label_index

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossrank.export.report import ExportEvent
    from crossrank.models.manifest import Precision, PrecisionChoice, ProviderChoice

_EMBEDDED_NAMES = ", ".join(repr(name) for name in EMBEDDED_MODELS)


def resolve_model(  # noqa: PLR0913  one parameter an option
    model: str | Path,
    *,
    provider: ProviderChoice = "auto",
    precision: PrecisionChoice = "auto",
    revision: str | None = None,
    file: str | None = None,
    positive_label: int | str | None = None,
    trust_remote_code: bool = False,
    update: bool = False,
    progress: Callable[[ExportEvent], None] | None = None,
) -> Path:
    """Find the artifact of a model, making it of its checkpoint or of its ready ONNX file if need be.

    Args:
        model: an embedded model's name, an artifact folder, a checkpoint folder, a catalogue name, or a hub id.
        provider: what it is to run on; decides the precision to export where `precision` is 'auto'.
        precision: which graph will be needed.
        revision: branch, tag or commit of a hub repository.
        file: the ready ONNX file to take, by its path in the repository or folder.
        positive_label: index or name of the label whose probability is the score; None to take what the model says.
        trust_remote_code: let code of the checkpoint run during an export.
        update: ask the hub what the revision is now, instead of taking the commit that was first fetched.
        progress: called with an event whenever a step of an export starts, advances or ends; downloads then show
            huggingface-hub's progress bars.

    Raises:
        ModelNotFoundError: nothing goes by that name, it cannot be read, or it is neither cached nor reachable.
        MissingDependencyError: it has to be made, and the extra for that is not installed.
        ExportError: making it failed.
        CacheFolderError: it may have to be exported, and there is no cache folder that can be read and written.
        ProviderError: it has to be exported, and would not run on that provider here.
        InvalidInputError: a revision or a file was given for something that has none, the label is not the one an
            artifact was made for, or the model is neither name nor path.
    """
    model = absolute_model(model)
    if revision is not None and (isinstance(model, Path) or model in EMBEDDED_MODELS):
        raise InvalidInputError(f"revision={revision!r}: only a hub repository has revisions, {str(model)!r} is none")
    artifact = isinstance(model, Path) and _is_file(model, is_artifact)
    if file is not None and (artifact or model in EMBEDDED_MODELS):
        raise InvalidInputError(f"file={file!r}: {str(model)!r} is an artifact already, which is not made from a file")
    if isinstance(model, Path) and artifact:
        return _made_for(positive_label, model)
    if not isinstance(model, Path) and model in EMBEDDED_MODELS:
        return _made_for(positive_label, embedded_artifact(model))
    entry = find_entry(model) if isinstance(model, str) else None
    if isinstance(model, Path):
        if file is None and not _is_file(model / "config.json", Path.is_file):
            raise ModelNotFoundError(
                f"folder {model} is neither an artifact (no manifest.json) nor a checkpoint (no config.json)"
            )
    elif entry is None and not _looks_like_hub_id(model):
        raise ModelNotFoundError(
            f"model {model!r} is no folder and no name of the catalogue ('crossrank models' lists it); expected "
            f"{_EMBEDDED_NAMES}, an artifact folder, a checkpoint folder, a catalogue name or a hub id such as "
            "'owner/name'"
        )
    wanted = Wanted(_precision_to_export(provider, precision), file, positive_label, trust_remote_code, progress)
    if isinstance(model, Path):
        return _made_for(positive_label, folder_artifact(model, wanted), cached=True)
    hub_id = entry.repository if entry else model
    revision = revision or (entry.revision or None if entry else None)
    return _made_for(positive_label, hub_artifact(hub_id, revision, entry, wanted, update=update), cached=True)


def absolute_model(model: str | Path) -> str | Path:
    """A model as it can be found from any working directory: a folder by its full path, other names as they are.

    A string that names an embedded model is that model; a folder of such a name goes by a path such as './default'.

    Raises:
        InvalidInputError: it is empty, or neither a string nor a path.
        ModelNotFoundError: it is a path, and no folder is there.
    """
    if not isinstance(model, str | os.PathLike) or not os.fspath(model):
        raise InvalidInputError(
            f"model is {model!r}: {_EMBEDDED_NAMES}, an artifact folder, a checkpoint folder, a catalogue name or a "
            "hub id expected"
        )
    if isinstance(model, str) and model in EMBEDDED_MODELS:
        return model
    folder = Path(os.path.expanduser(model))  # noqa: PTH111  Path.expanduser raises where there is no such user
    try:
        if folder.is_dir():
            return folder.absolute()
    except OSError as error:  # it may not be looked at, or is too long for a path
        if not isinstance(model, str) or folder.is_absolute():
            raise ModelNotFoundError(f"folder {str(folder)[:200]!r} cannot be read: {error.strerror}") from error
    if isinstance(model, str):
        return model
    raise ModelNotFoundError(f"there is no folder {folder}")


def _made_for(positive_label: int | str | None, folder: Path, *, cached: bool = False) -> Path:
    """An artifact's folder, where the label that means relevant is the one the caller names.

    Args:
        positive_label: what the caller names; None where nothing is named.
        folder: the artifact.
        cached: whether it was made for that label by the name of its folder. One without names of labels is then taken
            as it is: it may be the one column that was picked of an ONNX file's, which has no others to compare with.

    Raises:
        InvalidInputError: it is another one, or there is none of that name.
    """
    if positive_label is None:
        return folder
    manifest = Artifact.open(folder).manifest
    names = dict(enumerate(manifest.label_names))
    if cached and not names:
        return folder
    if label_index(positive_label, names, manifest.num_labels) != manifest.positive_label:
        labels = ", ".join(manifest.label_names) or f"{manifest.num_labels} without names"
        raise InvalidInputError(
            f"positive_label={positive_label!r}: the artifact {folder} was made for label "
            f"{names.get(manifest.positive_label, manifest.positive_label)!r} of its labels ({labels}); "
            + (
                "delete that folder, so that it is made again"
                if cached
                else "leave positive_label out, or export the checkpoint again with it"
            )
        )
    return folder


def _precision_to_export(provider: ProviderChoice, precision: PrecisionChoice) -> Precision:
    from crossrank.engine.runtime.providers import choose_provider

    chosen = choose_provider(provider).provider  # also where the precision is given: rather now than after an export
    if precision != "auto":
        return precision
    return "fp16" if chosen == "cuda" else "int8"


def _is_file(path: Path, check: Callable[[Path], bool]) -> bool:
    try:
        return check(path)
    except OSError as error:
        raise ModelNotFoundError(f"folder {path} cannot be read: {error.strerror}; let this user read it") from error


def _looks_like_hub_id(name: str) -> bool:
    owner, slash, repository = name.partition("/")
    return bool(owner and slash and repository) and "/" not in repository and not name.startswith((".", "~"))
