"""Folders of the user's for what crossrank keeps between processes. Only what keeps something asks for one."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.errors import CacheFolderError

if TYPE_CHECKING:
    from collections.abc import Iterator


def user_folder(name: str, variable: str) -> Path:
    """A folder that an environment variable names, else one in the user's cache folder of the platform.

    Args:
        name: of the folder in the user's cache folder.
        variable: the environment variable.

    Returns:
        The folder's full path; whether it is there or can be made is not known.

    Raises:
        CacheFolderError: it depends on a home or a working directory, and there is none.
    """
    chosen = os.environ.get(variable)
    try:
        if chosen:
            return Path(chosen).expanduser().absolute()
        import platformdirs

        folder = Path(platformdirs.user_cache_dir("crossrank", appauthor=False)) / name
    except (RuntimeError, OSError) as error:  # no such home; the working directory is gone
        given = f"{variable}={chosen!r}" if chosen else "no HOME and no entry of this user in the password database"
        raise CacheFolderError(
            f"the folder for {name} cannot be found ({given}: {error}); set {variable} to the full path of a folder"
        ) from error
    if not folder.is_absolute():  # as older versions of platformdirs answer without a home
        raise CacheFolderError(
            f"the folder for {name} would be {str(folder)!r}: this user has no home; set {variable} to the full path "
            "of a folder"
        )
    return folder


@contextmanager
def used_folder(folder: Path, variable: str) -> Iterator[None]:
    """Turn what the operating system says of a folder within a `with` statement into an error that says what to set.

    Args:
        folder: what is read or written.
        variable: the environment variable that names another.

    Raises:
        CacheFolderError: an OSError was raised.
    """
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the latter of filelock, where a file system has no locks
        raise CacheFolderError(
            f"the folder {folder} cannot be used ({error}); set {variable} to a folder that can be written"
        ) from error
