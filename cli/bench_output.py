"""What the measuring commands share: progress, tables, files, lists in options, the embedded models' checkpoints."""

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
    """Do work and show its steps on standard error: in one changing line on a terminal, else a line for each step."""
    console = err()
    if not console.is_terminal:
        return work(lambda step: console.print(step, markup=False))
    # No spinner: its thread would run while times are measured.
    result = work(lambda step: console.print(f"\r\x1b[2K{step}", end="", markup=False))
    console.print("\r\x1b[2K", end="")
    return result


def check_files(files: Mapping[str, Path | None]) -> None:
    """Refuse files that cannot be written, before anything is measured.

    Args:
        files: the path given for each option; None where the option was not given.

    Raises:
        InvalidInputError: a path is a folder or a read-only file, or its folder can be neither written to nor created.
    """
    for option, path in files.items():
        if path is None:
            continue
        if path.is_dir():
            raise InvalidInputError(f"{option} {path} is a folder; a file to write expected")
        if path.exists():
            if not os.access(path, os.W_OK):
                raise InvalidInputError(f"{option} {path} is read-only; a writable file expected")
        else:
            check_folder(option, path.parent)


def check_folder(option: str, folder: Path) -> None:
    """Refuse a folder that can be neither written to nor created, before anything is measured.

    Args:
        option: the option that names it.
        folder: the folder; it need not exist.

    Raises:
        InvalidInputError: the folder, or the nearest parent that exists, is not a folder or may not be written to.
    """
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise InvalidInputError(f"{option}: {existing} is no folder; a folder to write to expected")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InvalidInputError(f"{option}: {existing} may not be written to; a writable folder expected")


def write_file(path: Path, text: str) -> None:
    """Write a text as UTF-8; its folder is created if necessary."""
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


def embedded_checkpoint(model: str) -> Path | None:
    """The checkpoint that an embedded model was exported from, if the working directory is in a source checkout.

    Its weights must have the digests that the artifact records: another version's checkout may hold another model.
    """
    from crossrank.models.artifact import Artifact, sha256_of
    from crossrank.models.embedded import EMBEDDED_MODELS, embedded_artifact

    if model not in EMBEDDED_MODELS:
        return None
    recorded = Artifact.open(embedded_artifact(model)).manifest.source.weights_sha256
    for parent in (Path.cwd(), *Path.cwd().parents):
        folder = parent / "models" / model / "checkpoint"
        files = {name: folder / name for name in recorded}
        if recorded and all(path.is_file() and sha256_of(path) == recorded[name] for name, path in files.items()):
            return folder
    return None


def names(text: str) -> list[str]:
    """Split comma-separated names; empty ones are left out."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers_of(option: str, text: str) -> list[int]:
    """Parse comma-separated whole numbers of at least 1.

    Raises:
        InvalidInputError: the text holds anything else; the message names the option.
    """
    try:
        numbers = [int(number) for number in names(text)]
    except ValueError:
        numbers = [0]
    if min(numbers, default=1) < 1:
        raise InvalidInputError(f"--{option} {text!r}: whole numbers of at least 1, separated by commas, expected")
    return numbers
