"""Finding a checkpoint's files: a folder on disk, or a repository of the Hugging Face hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from crossrank.engine.text.documents import encodable
from crossrank.errors import InvalidInputError, ModelNotFoundError, UnsupportedCheckpointError
from crossrank.export.hub.client import download_matching

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTION = ("*.json", "*.txt", "*.model", "README.md")
_CODE = ("*.py",)
_SAFE_WEIGHTS = ("*.safetensors",)
_OTHER_WEIGHTS = ("pytorch_model*.bin",)
# A hub repository often carries copies for other runtimes in folders (onnx/, openvino/); the checkpoint is in its root.
_BELOW_ROOT = ("*/*",)
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class CheckpointSource:
    """Where a checkpoint is.

    Attributes:
        kind: "local" or "hub".
        id: hub id, or the name of the local folder.
        folder: the files on disk.
        revision: commit of the hub repository; empty for a local folder.
    """

    kind: Literal["local", "hub"]
    id: str
    folder: Path
    revision: str = ""


def find_source(
    source: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    with_code: bool = False,
) -> CheckpointSource:
    """Decide between a folder and a hub id, and fetch what describes the checkpoint (everything but its weights).

    Args:
        source: path of a folder, or a hub id such as "cross-encoder/ms-marco-MiniLM-L6-v2". A folder wins.
        revision: branch, tag or commit of a hub repository; None for its default branch.
        local_files_only: look in the hub's cache alone, fetch nothing.
        with_code: fetch the repository's Python files as well; only where the caller trusts them.

    Raises:
        InvalidInputError: a revision was given for a folder, or the source is neither a folder nor a hub id.
        ModelNotFoundError: there is no such folder, or the hub has (or the cache holds) no such repository.
        CacheFolderError: huggingface-hub has no folder that can be written.
    """
    text = os.fspath(source)
    folder = Path(os.path.expanduser(text))  # noqa: PTH111  Path.expanduser raises where there is no such user
    if _is_dir(folder):
        if revision:
            raise InvalidInputError(
                f"revision {revision!r} was given for the folder {text}; only hub ids have revisions"
            )
        folder = folder.resolve()
        if encodable(str(folder)) != str(folder):
            raise InvalidInputError(
                f"the path {str(folder)!r} is not UTF-8, and tokenizers reads from no other; rename the folder"
            )
        return CheckpointSource(kind="local", id=folder.name, folder=folder)
    if folder.is_file():
        raise InvalidInputError(
            f"{text} is a file, a checkpoint folder or a hub id was expected; "
            f"an ONNX file is imported with import_onnx (--from-onnx)"
        )
    if isinstance(source, Path) or not _HUB_ID.fullmatch(text):
        raise ModelNotFoundError(
            f"there is no folder {text}, and that is no hub id such as 'organisation/model' either"
        )
    patterns = _DESCRIPTION + (_CODE if with_code else ())
    snapshot = download_matching(text, revision, patterns, ignore=_BELOW_ROOT, local_files_only=local_files_only)
    return CheckpointSource(kind="hub", id=text, folder=snapshot, revision=snapshot.name)


def fetch_weights(source: CheckpointSource, *, local_files_only: bool = False) -> None:
    """Fetch the weights of a hub checkpoint: the safetensors files, or the older ones where there are none.

    Raises:
        ModelNotFoundError: the hub cannot be reached, or the cache lacks them and nothing may be fetched.
        CacheFolderError: huggingface-hub's folder cannot be written.
    """
    if source.kind != "hub":
        return
    for patterns in (_SAFE_WEIGHTS, _OTHER_WEIGHTS):
        download_matching(source.id, source.revision, patterns, ignore=_BELOW_ROOT, local_files_only=local_files_only)
        if any(path for pattern in patterns for path in source.folder.glob(pattern)):
            return


def fetch_folders(source: CheckpointSource, folders: Sequence[str], *, local_files_only: bool = False) -> None:
    """Fetch folders of a hub checkpoint, each with the configuration and the weights of one module.

    Raises:
        ModelNotFoundError: the hub cannot be reached, or the cache lacks them and nothing may be fetched.
        CacheFolderError: huggingface-hub's folder cannot be written.
    """
    if source.kind == "hub":
        patterns = tuple(f"{folder}/{name}" for folder in folders for name in ("*.json", *_SAFE_WEIGHTS))
        download_matching(source.id, source.revision, patterns, local_files_only=local_files_only)


def read_licence(folder: Path) -> str:
    """The licence a model card (README.md) states in its front matter; empty where there is none."""
    from huggingface_hub.repocard import metadata_load

    try:
        metadata = metadata_load(folder / "README.md") or {}
    except Exception:
        # No card, or front matter that is no YAML: either way nothing is stated.
        return ""
    licence = metadata.get("license")
    return licence if isinstance(licence, str) else ""


def refuse_pointer(path: Path) -> None:
    """Refuse a file that git left in the place of a large one.

    Raises:
        UnsupportedCheckpointError: it is a pointer of Git LFS.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except OSError:  # whoever reads it next says why
        return
    if start == _LFS_POINTER:
        raise UnsupportedCheckpointError(
            f"{path} is a pointer of Git LFS, not the file itself; run 'git lfs pull' in the repository"
        )


def _is_dir(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError as error:
        raise ModelNotFoundError(f"cannot read {folder}: {error}; make it readable for this user") from error
