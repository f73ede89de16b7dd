"""Exports made on demand, kept in a cache folder: each checkpoint, precision and version is exported once.

An entry is an artifact like any other, written whole or not at all; a file lock keeps two processes from making the
same one. Nothing is ever removed: delete the folder to free its space.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from typing import TYPE_CHECKING

from crossrank.models.artifact import is_artifact, sha256_of
from crossrank.models.user_folders import used_folder, user_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crossrank.models.manifest import Precision

CACHE_VARIABLE = "CROSSRANK_CACHE"
"""Environment variable that names the cache folder, instead of the user's cache folder of the platform."""

_DESCRIBING_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin", "*.py")


def cache_folder() -> Path:
    """Where exports made on demand are kept.

    Raises:
        CacheFolderError: this user has no such folder.
    """
    return user_folder("exports", CACHE_VARIABLE)


def find_hub_export(hub_id: str, revision: str | None, precision: Precision) -> Path | None:
    """An export of a hub checkpoint that is cached already, found without a network.

    Args:
        hub_id: repository.
        revision: branch, tag or commit; None for the default branch as it was when it was exported.
        precision: of the graph.

    Raises:
        CacheFolderError: this user has no cache folder, or it cannot be read.
    """
    reference = _reference(hub_id, revision)
    with used_folder(cache_folder(), CACHE_VARIABLE):
        try:
            commit = reference.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        folder = _entry(hub_id, commit, precision)
        return folder if is_artifact(folder) else None


def hub_export(
    hub_id: str, revision: str | None, commit: str, precision: Precision, make: Callable[[Path], object]
) -> Path:
    """The cached export of a hub checkpoint, made if it is not there, and found by its revision from now on.

    Args:
        hub_id: repository.
        revision: as the caller asked for it.
        commit: what that revision is.
        precision: of the graph.
        make: exports to the folder given.

    Raises:
        CacheFolderError: the export has to be made, and the cache folder cannot be found or written.
    """
    folder = _made(_entry(hub_id, commit, precision), make)
    # Of an export that is there nothing has to be written: the cache may be read-only, and is asked for the commit.
    with contextlib.suppress(OSError):
        for name in {revision, commit}:
            reference = _reference(hub_id, name)
            reference.parent.mkdir(parents=True, exist_ok=True)
            temporary = reference.with_name(f"{reference.name}.{os.getpid()}")
            temporary.write_text(commit, encoding="utf-8")
            temporary.replace(reference)
    return folder


def local_export(checkpoint: Path, precision: Precision, make: Callable[[Path], object]) -> Path:
    """The cached export of a checkpoint folder, made if no export of these very bytes is there.

    Args:
        checkpoint: the folder.
        precision: of the graph.
        make: exports to the folder given.

    Raises:
        CacheFolderError: the export has to be made, and the cache folder cannot be found or written.
    """
    return _made(_entry(checkpoint.resolve().name, _digest(checkpoint), precision), make)


def _entry(name: str, state: str, precision: Precision) -> Path:
    from crossrank import __version__

    return cache_folder() / _slug(name) / f"{state}-{precision}-{__version__}"


def _reference(hub_id: str, revision: str | None) -> Path:
    return cache_folder() / _slug(hub_id) / "refs" / _slug(revision or "default branch")


def _made(folder: Path, make: Callable[[Path], object]) -> Path:
    import filelock

    lock = filelock.FileLock(folder.with_name(f"{folder.name}.lock"))
    with used_folder(cache_folder(), CACHE_VARIABLE):
        if is_artifact(folder):
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        if not is_artifact(folder):
            make(folder)
    finally:
        lock.release()
    return folder


def _slug(name: str) -> str:
    """A folder name for any name; distinct names stay distinct."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "--", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _digest(checkpoint: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _DESCRIBING_FILES for path in checkpoint.glob(pattern)}):
        digest.update(f"{path.name}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()[:32]
