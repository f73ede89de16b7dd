"""Where a ready ONNX file may lie, with what else lies there: a repository of the hub at one commit, or a folder."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from crossrank.errors import ModelNotFoundError
from crossrank.export.hub.client import download_file, download_matching, hub_errors
from crossrank.models.artifact import sha256_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_BLOB = re.compile(r"[0-9a-f]{40}")


class Place(Protocol):
    """Files by their paths, and a way to get one."""

    @property
    def hub_id(self) -> str:
        """The repository's id; empty for a folder."""

    @property
    def commit(self) -> str:
        """The repository's full commit; empty for a folder."""

    @property
    def where(self) -> str:
        """The place's name, for messages."""

    @property
    def names(self) -> Collection[str]:
        """Paths of all files."""

    @property
    def partial(self) -> bool:
        """Whether there may be more files, which cannot be had now."""

    def take(self, name: str) -> tuple[Path, str]:
        """A file on this machine, and its sha256."""


@dataclass(frozen=True)
class Folder:
    """A local folder, such as a copy of a hub repository.

    Attributes:
        path: the folder.
        names: its files and those one level below.
    """

    path: Path
    names: frozenset[str]
    hub_id: str = ""
    commit: str = ""
    partial: bool = False

    @classmethod
    def at(cls, path: Path) -> Folder:
        """Look what files a folder has."""
        files = (file for pattern in ("*", "*/*") for file in path.glob(pattern) if file.is_file())
        return cls(path, frozenset(file.relative_to(path).as_posix() for file in files))

    @property
    def where(self) -> str:
        """The folder's path."""
        return f"folder {self.path}"

    def take(self, name: str) -> tuple[Path, str]:
        """A file where it is, and its sha256.

        Raises:
            ModelNotFoundError: it cannot be read.
        """
        try:
            return self.path / name, sha256_of(self.path / name)
        except OSError as error:
            raise ModelNotFoundError(
                f"{name} of {self.path} cannot be read: {error.strerror or error}; let this user read it"
            ) from error


@dataclass(frozen=True)
class Repository:
    """A repository of the hub at one commit.

    Attributes:
        hub_id: its id, owner/name.
        commit: full commit.
        digests: every file by its path, with the digest the hub states: sha256 for a large file, git's blob id for a
            small one, empty where it states none.
        recorded: sha256 of files as they were when this commit was first fetched; empty where it was not.
        partial: whether the hub is out of reach, so that the files are those of its cache.
        show_progress: show huggingface-hub's progress bars, on a terminal.
    """

    hub_id: str
    commit: str
    digests: Mapping[str, str]
    recorded: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False
    show_progress: bool = False

    @property
    def where(self) -> str:
        """The repository's name."""
        return f"{'the cache of ' if self.partial else ''}hub repository {self.hub_id!r}"

    @property
    def names(self) -> Collection[str]:
        """Paths of all files."""
        return self.digests.keys()

    def take(self, name: str) -> tuple[Path, str]:
        """Fetch a file into the hub's cache, or find it there; one that has another digest is fetched again once.

        Args:
            name: path in the repository.

        Returns:
            The file in the cache, and its sha256.

        Raises:
            ModelNotFoundError: the file cannot be had, or not with the digest it should have.
            CacheFolderError: huggingface-hub's folder cannot be written.
        """
        path = download_file(self.hub_id, self.commit, name, show_progress=self.show_progress)
        sha256 = sha256_of(path)
        wrong = self._wrong(name, path, sha256)
        if not wrong:
            return path, sha256
        try:
            path = download_file(self.hub_id, self.commit, name, again=True, show_progress=self.show_progress)
        except ModelNotFoundError as error:
            raise ModelNotFoundError(f"{wrong}, and it could not be fetched again: {error}") from error
        sha256 = sha256_of(path)
        wrong = self._wrong(name, path, sha256)
        if wrong:
            raise ModelNotFoundError(
                f"{wrong}, also after it was fetched again; it was damaged or altered on its way, or the hub (or the "
                f"mirror that HF_ENDPOINT names) gives other bytes than it says"
            )
        return path, sha256

    def _wrong(self, name: str, path: Path, sha256: str) -> str:
        """What is wrong with a file's bytes, in a sentence without its end; empty where nothing is."""
        what = f"{name} of {self.hub_id!r} at commit {self.commit} has the sha256 {sha256}"
        recorded = self.recorded.get(name)
        if recorded and sha256 != recorded:
            return f"{what}, it had {recorded} when it was first fetched"
        stated = self.digests.get(name, "")
        if _SHA256.fullmatch(stated) and sha256 != stated:
            return f"{what}, the hub says {stated}"
        if _GIT_BLOB.fullmatch(stated) and _git_blob_id(path) != stated:
            return f"{what}, the hub says that git's id of it is {stated}, which does not fit"
        return ""


def find_repository(hub_id: str, revision: str | None, *, show_progress: bool = False) -> Repository:
    """Ask the hub for a repository's commit and files; where it cannot be reached, its cache.

    Args:
        hub_id: owner/name.
        revision: branch, tag or commit; None for the default branch.
        show_progress: show huggingface-hub's progress bars when files are fetched, on a terminal.

    Raises:
        ModelNotFoundError: there is no such repository or revision, or it is neither reachable nor cached.
        CacheFolderError: huggingface-hub has no folder that can be written.
    """
    # One file that every model has: huggingface-hub then notes the branch's commit, and finds it without a network.
    snapshot = download_matching(hub_id, revision, ("config.json",))
    try:
        return Repository(hub_id, snapshot.name, _stated_digests(hub_id, snapshot.name), show_progress=show_progress)
    except ModelNotFoundError:
        if not snapshot.is_dir():
            raise
    return Repository(hub_id, snapshot.name, _cached_digests(snapshot), partial=True)


def _stated_digests(hub_id: str, commit: str) -> dict[str, str]:
    """What the hub states of each file."""
    with hub_errors(hub_id, commit):
        from huggingface_hub import HfApi, constants

        info = HfApi().model_info(hub_id, revision=commit, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    digests = {}
    for sibling in info.siblings or ():
        large = sibling.lfs.sha256 if sibling.lfs is not None else None
        digests[sibling.rfilename] = large or sibling.blob_id or ""
    return digests


def _cached_digests(snapshot: Path) -> dict[str, str]:
    """The files of a snapshot: links to blobs, which are named by the digests that the hub stated of them."""
    files = (path for path in snapshot.rglob("*") if path.is_file())
    return {path.relative_to(snapshot).as_posix(): path.resolve().name if path.is_symlink() else "" for path in files}


def _git_blob_id(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
