"""What the benchmark commands share: progress, tables, the default model's checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.table import Table

from crossrank.cli.common import err, out
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from crossrank.evaluation.report_table import ReportTable

Result = TypeVar("Result")


def with_progress(work: Callable[[Callable[[str], None]], Result]) -> Result:
    """Show the current step on standard error: one changing line on a terminal, a line for each step elsewhere."""
    console = err()
    if not console.is_terminal:
        return work(lambda step: console.print(step, markup=False))
    # A spinner would be one more thread at work while times are taken.
    result = work(lambda step: console.print(f"\r\x1b[2K{step}", end="", markup=False))
    console.print("\r\x1b[2K", end="")
    return result


def check_files(files: Mapping[str, Path | None]) -> None:
    """Refuse files that could not be written, before anything is measured; those of None are not wanted.

    Args:
        files: option to path.

    Raises:
        InvalidInputError: a path is a folder, its folder can neither be written to nor made, or the file is read-only.
    """
    for option, path in files.items():
        if path is None:
            continue
        if path.is_dir():
            raise InvalidInputError(f"{option} {path} is a folder; a file to write expected")
        if path.exists():
            if not os.access(path, os.W_OK):
                raise InvalidInputError(f"{option} {path} is read-only; a file that may be written expected")
        else:
            check_folder(option, path.parent)


def check_folder(option: str, folder: Path) -> None:
    """Refuse a folder that can neither be written to nor made, before anything is measured.

    Raises:
        InvalidInputError: the folder cannot be written to or made.
    """
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise InvalidInputError(f"{option}: {existing} is not a folder; a writable folder expected")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InvalidInputError(f"{option}: {existing} is not writable; a writable folder expected")


def write_file(path: Path, text: str) -> None:
    """Write a text as UTF-8; its folder is made where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def print_tables(tables: Iterable[ReportTable]) -> None:
    """Print tables with their notes."""
    console = out()
    for table in tables:
        console.print(rich_table(table))
        console.print(table.note, "\n" if table.note else "", style="dim", markup=False)


def rich_table(table: ReportTable) -> Table:
    """A table for the terminal."""
    rendered = Table(box=None, pad_edge=False, header_style="bold", title=table.title, title_justify="left")
    for column in table.columns:
        rendered.add_column(column, justify="left" if table.is_left(column) or not column else "right")
    for cells in table.rows:
        rendered.add_row(*cells)
    return rendered


def default_checkpoint(model: str) -> Path | None:
    """The checkpoint that the default model was made from, where the working directory is in a source checkout.

    Only its very weights count: a checkout of another version may hold another model.
    """
    from crossrank.models.artifact import Artifact, sha256_of
    from crossrank.models.embedded import default_artifact

    if model != "default":
        return None
    wanted = Artifact.open(default_artifact()).manifest.source.weights_sha256
    for parent in (Path.cwd(), *Path.cwd().parents):
        folder = parent / "models" / "default" / "checkpoint"
        files = {name: folder / name for name in wanted}
        if wanted and all(path.is_file() and sha256_of(path) == wanted[name] for name, path in files.items()):
            return folder
    return None


def names(text: str) -> list[str]:
    """Comma-separated names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers_of(option: str, text: str) -> list[int]:
    """Whole numbers of at least 1 between commas.

    Raises:
        InvalidInputError: there is something else; the message names the option.
    """
    try:
        numbers = [int(number) for number in names(text)]
    except ValueError:
        numbers = [0]
    if min(numbers, default=1) < 1:
        raise InvalidInputError(f"--{option} {text!r}: whole numbers of at least 1 between commas expected")
    return numbers
