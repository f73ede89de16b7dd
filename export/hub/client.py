"""Fetching from the hub by huggingface-hub, and what it raises in crossrank's words.

huggingface-hub decides how the hub is reached and where files are kept (HF_ENDPOINT, HF_TOKEN, HTTPS_PROXY,
HF_HUB_OFFLINE, HF_HOME), continues broken downloads, and shows progress.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.errors import CacheFolderError, ModelNotFoundError
from crossrank.export.checkpoint.quiet import quiet_downloads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HUB_VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")
_FOLDER_ERRORS = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOTDIR,
        errno.EEXIST,
        errno.ENAMETOOLONG,
    }
)


def download_matching(
    hub_id: str,
    revision: str | None,
    patterns: Sequence[str],
    *,
    ignore: Sequence[str] = (),
    local_files_only: bool = False,
) -> Path:
    """Fetch the files of a repository that match patterns.

    Args:
        hub_id: the repository.
        revision: branch, tag or commit; None for the default branch.
        patterns: which files.
        ignore: which of them not.
        local_files_only: look in the hub's cache alone, fetch nothing.

    Returns:
        The snapshot in the hub's cache, a folder named after the commit.

    Raises:
        ModelNotFoundError: the hub has (or the cache holds) no such repository or revision, or it cannot be reached.
        CacheFolderError: huggingface-hub has no folder that can be written.
    """
    with hub_errors(hub_id, revision), quiet_downloads():
        from huggingface_hub import constants, snapshot_download

        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(ignore),
                # Offline, version 1 looks for the list of a commit's files even if the snapshot is there.
                local_files_only=local_files_only or constants.HF_HUB_OFFLINE,
            )
        )


def download_file(hub_id: str, commit: str, name: str, *, again: bool = False, show_progress: bool = False) -> Path:
    """Fetch one file of a repository; where it is in the hub's cache already, nothing is asked of the hub.

    Args:
        hub_id: the repository.
        commit: full commit.
        name: path in the repository.
        again: fetch it even if the cache has it.
        show_progress: show huggingface-hub's progress bar, on a terminal.

    Returns:
        The file in the snapshot of the hub's cache.

    Raises:
        ModelNotFoundError: there is no such file, or the hub cannot be reached.
        CacheFolderError: huggingface-hub has no folder that can be written.
    """
    quiet = contextlib.nullcontext() if show_progress else quiet_downloads()
    with hub_errors(hub_id, commit), quiet:
        from huggingface_hub import hf_hub_download

        return Path(str(hf_hub_download(hub_id, name, revision=commit, force_download=again)))


@contextlib.contextmanager
def hub_errors(hub_id: str, revision: str | None) -> Iterator[None]:
    """Turn what huggingface-hub raises within a `with` statement into errors that say what to do.

    Raises:
        ModelNotFoundError: no such repository, revision or file, or the hub cannot be reached.
        CacheFolderError: huggingface-hub has no folder that can be written.
    """
    if not any(map(os.environ.get, _HUB_VARIABLES)) and not os.path.isabs(os.path.expanduser("~")):  # noqa: PTH111, PTH117
        # huggingface-hub would make a folder called '~' in the working directory.
        raise CacheFolderError(
            f"huggingface-hub has no folder for {hub_id!r}: this user has no home; set HF_HOME to the full path of a "
            "folder"
        )
    from huggingface_hub.errors import (
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except RevisionNotFoundError as error:
        raise ModelNotFoundError(f"hub repository {hub_id!r} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"there is no folder {hub_id!r} here and no such repository on the hub (or it is private: set HF_TOKEN)"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelNotFoundError(
            f"there is no folder {hub_id!r} here, and the hub repository is not in the cache while nothing may be "
            f"fetched or the hub is out of reach; run 'hf download {hub_id}' where there is a network, "
            f"or name a folder with the checkpoint (HF_HUB_OFFLINE, HTTPS_PROXY and HF_ENDPOINT decide how the hub is "
            f"reached, HF_HOME where its cache is)"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FOLDER_ERRORS:
            raise CacheFolderError(
                f"cannot keep {hub_id!r} in huggingface-hub's folder: {error}{_hint(error)}"
            ) from error
        # OSErrors (requests' among them), bad ids, and httpx's own from version 1 of the client on.
        raise ModelNotFoundError(f"cannot fetch {hub_id!r} from the hub: {error}{_hint(error)}") from error


def _hint(error: BaseException | None) -> str:
    """What to set where it is the surroundings that fail: the cache folder, its disk, or the network."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _FOLDER_ERRORS:
            from huggingface_hub import constants

            return (
                f"; the hub's cache is {constants.HF_HUB_CACHE}: make it writable and make room in it, or set HF_HOME "
                f"(or HF_HUB_CACHE) to another folder"
            )
        error = error.__cause__ or error.__context__
    return (
        "; where the network needs a proxy or a mirror, set HTTPS_PROXY or HF_ENDPOINT; without a network, name a "
        "folder with the checkpoint"
    )
