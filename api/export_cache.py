"""Exports made on demand, kept in a cache folder: each checkpoint or ONNX file, precision and version is made once.

An entry is an artifact like any other, written whole or not at all; a file lock keeps two processes from making the
same one. Beside the entries of a hub repository stand the commit that each revision was when it was first fetched
(`refs/`), and the digests of the files that were fetched of each commit (`files/`). Nothing is ever removed: delete
the folder to free its space.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from typing import TYPE_CHECKING

from crossrank.errors import ModelNotFoundError
from crossrank.models.artifact import is_artifact, sha256_of
from crossrank.models.user_folders import used_folder, user_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
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


def find_hub_export(
    hub_id: str,
    revision: str | None,
    precision: Precision,
    file: str | None = None,
    label: int | str | None = None,
) -> Path | None:
    """An export of a hub repository that is cached already, found without a network.

    Args:
        hub_id: repository.
        revision: branch, tag or commit; None for the default branch as it was when it was first fetched.
        precision: of the graph.
        file: the ready ONNX file it was made from; None for the export of the checkpoint.
        label: the label that means relevant, as the caller names it; None where it does not.

    Raises:
        CacheFolderError: this user has no cache folder, or it cannot be read.
    """
    commit = known_commit(hub_id, revision)
    if commit is None:
        return None
    with used_folder(cache_folder(), CACHE_VARIABLE):
        folder = _entry(hub_id, commit, precision, file, label)
        return folder if is_artifact(folder) else None


def known_commit(hub_id: str, revision: str | None) -> str | None:
    """The commit that a revision was when it was first fetched; None where it was not.

    Raises:
        CacheFolderError: this user has no cache folder, or it cannot be read.
    """
    with used_folder(cache_folder(), CACHE_VARIABLE):
        try:
            return _reference(hub_id, revision).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None


def known_digests(hub_id: str, commit: str) -> dict[str, str]:
    """The sha256 of files of a commit as they were first fetched; empty where none were.

    Raises:
        CacheFolderError: this user has no cache folder, or it cannot be read.
    """
    with used_folder(cache_folder(), CACHE_VARIABLE):
        try:
            recorded = json.loads(_digests(hub_id, commit).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
    return {str(name): str(digest) for name, digest in recorded.items()} if isinstance(recorded, dict) else {}


def record_fetch(hub_id: str, revision: str | None, commit: str, digests: Mapping[str, str] | None = None) -> None:
    """Keep what a revision was when it was fetched, so that later fetches name that commit and check its files.

    Args:
        hub_id: repository.
        revision: as the caller asked for it.
        commit: what that revision is.
        digests: sha256 of files that were fetched of it.
    """
    # A cache that holds an export may be read-only: nothing has to be written then, and the next fetch asks again.
    with contextlib.suppress(OSError):
        for name in {revision, commit}:
            _write(_reference(hub_id, name), commit)
        if digests:
            known = known_digests(hub_id, commit)
            _write(_digests(hub_id, commit), json.dumps(known | dict(digests), indent=2, sort_keys=True) + "\n")


def hub_export(
    hub_id: str,
    revision: str | None,
    commit: str,
    precision: Precision,
    make: Callable[[Path], object],
    file: str | None = None,
    label: int | str | None = None,
) -> Path:
    """The cached export of a hub repository, made if it is not there, and found by its revision from now on.

    Args:
        hub_id: repository.
        revision: as the caller asked for it.
        commit: what that revision is.
        precision: of the graph.
        make: exports to the folder given.
        file: the ready ONNX file it is made from; None for the export of the checkpoint.
        label: the label that means relevant, as the caller names it; None where it does not.

    Raises:
        CacheFolderError: the export has to be made, and the cache folder cannot be found or written.
    """
    folder = _made(_entry(hub_id, commit, precision, file, label), make)
    record_fetch(hub_id, revision, commit)
    return folder


def find_local_export(checkpoint: Path, precision: Precision, label: int | str | None = None) -> tuple[Path, bool]:
    """Where the export of a checkpoint folder of these very bytes is kept, and whether it is there.

    Args:
        checkpoint: the folder.
        precision: of the graph.
        label: the label that means relevant, as the caller names it; None where it does not.

    Raises:
        CacheFolderError: this user has no cache folder, or it cannot be read.
        ModelNotFoundError: a file of the checkpoint cannot be read.
    """
    # Of folders too: each module of a sentence-transformers model has one.
    found = {path for pattern in _DESCRIBING_FILES for depth in ("", "*/") for path in checkpoint.glob(depth + pattern)}
    files = sorted(path for path in found if path.is_file())
    named = [(path.relative_to(checkpoint).as_posix(), _digest(path, checkpoint)) for path in files]
    return _local(checkpoint, named, precision, label=label)


def _digest(path: Path, checkpoint: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise ModelNotFoundError(
            f"{path.relative_to(checkpoint)} of {checkpoint} cannot be read: {error.strerror or error}; let this user "
            f"read it, or take it out of the folder where the model needs none"
        ) from error


def find_local_import(
    folder: Path, file: str, digests: Mapping[str, str], precision: Precision, label: int | str | None = None
) -> tuple[Path, bool]:
    """Where the artifact of a folder's ready ONNX file is kept, and whether it is there.

    Args:
        folder: where the file is.
        file: its path in the folder.
        digests: sha256 of all files that are read.
        precision: of the graph.
        label: the label that means relevant, as the caller names it; None where it does not.

    Raises:
        CacheFolderError: this user has no cache folder, or it cannot be read.
    """
    return _local(folder, sorted(digests.items()), precision, file, label)


def local_export(entry: Path, make: Callable[[Path], object]) -> Path:
    """An entry of `find_local_export` or `find_local_import`, made if it is not there.

    Args:
        entry: where it is kept.
        make: exports to the folder given.

    Raises:
        CacheFolderError: the export has to be made, and the cache folder cannot be written.
    """
    return _made(entry, make)


def _local(
    folder: Path,
    digests: Iterable[tuple[str, str]],
    precision: Precision,
    file: str | None = None,
    label: int | str | None = None,
) -> tuple[Path, bool]:
    state = hashlib.sha256()
    for name, digest in digests:
        state.update(f"{name}\0{digest}\n".encode())
    with used_folder(cache_folder(), CACHE_VARIABLE):
        entry = _entry(folder.resolve().name, state.hexdigest()[:32], precision, file, label)
        return entry, is_artifact(entry)


def _entry(name: str, state: str, precision: Precision, file: str | None, label: int | str | None) -> Path:
    from crossrank import __version__

    of_file = "" if file is None else f"-{_slug(file)}"
    # The index 1 and the name '1' may be different labels. No index has the letters that stand before names.
    of_label = "" if label is None else f"-label-{_slug(f'name-{label}' if isinstance(label, str) else str(label))}"
    return cache_folder() / _slug(name) / f"{state}-{precision}-{__version__}{of_file}{of_label}"


def _reference(hub_id: str, revision: str | None) -> Path:
    return cache_folder() / _slug(hub_id) / "refs" / _slug(revision or "default branch")


def _digests(hub_id: str, commit: str) -> Path:
    return cache_folder() / _slug(hub_id) / "files" / f"{commit}.json"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


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
