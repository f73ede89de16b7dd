"""Writes an artifact atomically: the whole artifact appears, or nothing.

Files are written to a temporary folder beside the target. A commit writes the manifest, flushes everything to disk and
renames the folder; until then nothing is visible under the target's name. A process that ends early leaves at most a
temporary folder, which the next writer to the same target removes.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from crossrank.errors import ArtifactError
from crossrank.models.artifact import MANIFEST_NAME, Artifact, is_artifact

if TYPE_CHECKING:
    from types import TracebackType

    from crossrank.models.manifest import Manifest

_STALE_AFTER_SECONDS = 24 * 3600
_TEMPORARY = "crossrank-new"
_REPLACED = "crossrank-old"


class ArtifactWriter:
    """Context manager that builds one artifact folder.

    Example:
        >>> with ArtifactWriter(Path("out")) as writer:  # doctest: +SKIP
        ...     (writer.folder / "tokenizer.json").write_text(...)
        ...     writer.commit(manifest)

    Leaving the context without `commit`, by an error or otherwise, removes what was written and keeps the old target.
    """

    def __init__(self, target: str | Path, *, force: bool = False) -> None:
        """Check the target; nothing is written before the context is entered.

        Args:
            target: folder to create. Its parents are created when the context is entered.
            force: replace an artifact that exists already.

        Raises:
            ArtifactError: the target exists and `force` is not set, or it is something other than an artifact,
                a mount point, or a path that is not UTF-8.
        """
        self.target = Path(target).absolute()
        self._force = force
        self._folder: Path | None = None
        self._check_target()

    @property
    def folder(self) -> Path:
        """The temporary folder to place files in; only inside the context."""
        if self._folder is None:
            raise ArtifactError("the writer has no folder outside its 'with' block")
        return self._folder

    def __enter__(self) -> Self:
        """Remove stale temporary folders of this target and create a new one.

        Raises:
            ArtifactError: the folder cannot be written to, or an artifact that an earlier writer had moved aside was
                put back and `force` is not set.
        """
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._check_target()
            self._folder = self.target.parent / self._private_name(_TEMPORARY)
            self._folder.mkdir()
        except OSError as error:
            raise ArtifactError(f"cannot write beside {self.target}: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the temporary folder unless it was committed."""
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, manifest: Manifest) -> Path:
        """Write the manifest, flush, and make the artifact visible under the target's name.

        Args:
            manifest: its `files` must be exactly the files in `folder`.

        Returns:
            The target's path.

        Raises:
            ArtifactError: the files are not those of the manifest, or cannot be written.
        """
        folder = self.folder
        written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        recorded = {record.path for record in manifest.files}
        if written - {MANIFEST_NAME} != recorded:
            raise ArtifactError(
                f"the manifest records {sorted(recorded)}, the folder holds {sorted(written - {MANIFEST_NAME})}"
            )
        try:
            write_manifest(folder, manifest)
            _flush(folder)
            self._check_target()
            self._replace(folder)
        except OSError as error:
            raise ArtifactError(f"cannot write the artifact {self.target}: {error}") from error
        self._folder = None
        return self.target

    def _check_target(self) -> None:
        try:
            str(self.target).encode()
        except UnicodeEncodeError as error:
            raise ArtifactError(
                f"the path {str(self.target)!r} is not UTF-8, which the tokenizers library needs; name another folder"
            ) from error
        if not os.path.lexists(self.target):
            return
        if os.path.ismount(self.target):
            raise ArtifactError(
                f"{self.target} is a mount point, which cannot be replaced by the finished artifact; "
                f"name a folder inside it, such as {self.target / 'artifact'}"
            )
        if self.target.is_dir() and not any(self.target.iterdir()):
            return
        if not self.target.is_dir() or not is_artifact(self.target):
            raise ArtifactError(f"{self.target} exists and is no artifact; name another folder, this one is left alone")
        if not self._force:
            raise ArtifactError(f"artifact {self.target} exists already; pass force=True (--force) to replace it")

    def _replace(self, folder: Path) -> None:
        """Rename the folder to the target, moving an old artifact aside and back if the rename fails."""
        aside = self.target.parent / self._private_name(_REPLACED)
        try:
            if self.target.exists():
                self.target.rename(aside)
            folder.rename(self.target)
            _flush_folder(self.target.parent)
        finally:
            # Look at the disk: an interrupt may come right after a rename, before a variable could record it.
            if not self.target.exists() and os.path.lexists(aside):
                aside.rename(self.target)
            _remove(aside)

    def _private_name(self, kind: str) -> str:
        return f".{self.target.name}.{kind}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}"

    def _sweep(self) -> None:
        """Remove what ended writers left behind, and put back an artifact that one of them had moved aside."""
        pattern = re.compile(
            rf"\.{re.escape(self.target.name)}\.({_TEMPORARY}|{_REPLACED})\.([0-9a-f]+)\.(\d+)\.[0-9a-f]+"
        )
        for path in sorted(self.target.parent.iterdir()):
            match = pattern.fullmatch(path.name)
            if match is None or not _writer_ended(path, match[2], int(match[3])):
                continue
            if match[1] == _REPLACED and not os.path.lexists(self.target) and _is_whole(path):
                path.rename(self.target)
            else:
                _remove(path)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into a folder, deterministically (stable key order, two-space indent, final newline)."""
    text = manifest.model_dump_json(indent=2) + "\n"
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")


def _remove(path: Path) -> None:
    """Remove a folder, or a link without its target; ignores what cannot be removed."""
    if path.is_symlink():
        with contextlib.suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    """Tell whether a folder is an undamaged artifact, not one that is half deleted."""
    try:
        Artifact.open(folder).verify()
    except ArtifactError:
        return False
    return True


def _host() -> str:
    return socket.gethostname().encode("utf-8", "replace").hex()[:32] or "0"


def _writer_ended(path: Path, host: str, pid: int) -> bool:
    """Tell whether the writer of a temporary folder has ended: its process on this host, else no change for a day."""
    if host == _host():
        if pid == os.getpid():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > _STALE_AFTER_SECONDS
    return False


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
