"""From kept scores to the output: written beside it, flushed, renamed; a process may be killed between any two steps.

The digest of the output and its columns are kept in the work file before the rename, so the next process can tell that
an output which is there already is its own, and whether it has the columns that are wanted now. The record beside the
output outlives the work file: it says what scored the output, and that the same command has nothing left to do.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.bulk.checking import changed_while_read
from crossrank.bulk.rows import columns_of, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import pyarrow as pa

    from crossrank.bulk.checking import CheckedFile
    from crossrank.bulk.layout import Layout
    from crossrank.bulk.output import Output
    from crossrank.bulk.work_file import WorkFile


@dataclass(frozen=True)
class OutputFiles:
    """An output and what may lie beside it.

    Attributes:
        out: the output.
    """

    out: Path

    @property
    def work(self) -> Path:
        """The scores that are kept until the output is whole."""
        return self._beside(".scoring")

    @property
    def partial(self) -> Path:
        """The output until it is whole."""
        return self._beside(".partial")

    @property
    def record(self) -> Path:
        """What scored the output; stays beside it."""
        return self._beside(".job.json")

    @property
    def partial_record(self) -> Path:
        """The record until it is whole."""
        return self._beside(".job.json.partial")

    @property
    def all(self) -> tuple[Path, ...]:
        """All of them, and what SQLite puts beside the work file."""
        return self.out, self.work, self._beside(".scoring-journal"), self.partial, self.record, self.partial_record

    def is_output(self, expected: dict[str, Any] | None) -> bool:
        """Whether the output is there with a size and digest."""
        return expected is not None and self.out.is_file() and description_of(self.out) == expected

    def read_record(self) -> dict[str, Any]:
        """The record; empty where there is none that can be read."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _beside(self, suffix: str) -> Path:
        return self.out.with_name(self.out.name + suffix)


def description_of(path: Path) -> dict[str, Any]:
    """Size and digest of a file, for JSON."""
    with path.open("rb") as stream:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def write_partial(
    path: Path,
    output: Output,
    layout: Layout,
    files: Sequence[CheckedFile],
    schema: pa.Schema | None,
    scores: Iterator[npt.NDArray[np.float32]],
    progress: Callable[[int], None],
) -> None:
    """Write all rows with their scores to a new file and flush it to disk.

    Args:
        path: of the file.
        output: writes it.
        layout: of the columns.
        files: whose rows they are.
        schema: of the carried columns.
        scores: of all rows, in pieces of any size.
        progress: called with the number of rows written so far.

    Raises:
        InvalidInputError: the files do not have the rows they had.
    """
    path.unlink(missing_ok=True)
    done, pieces = 0, _Pieces(scores)
    with output.open(path, schema) as writer:
        for checked in files:
            typed = columns_of(checked.file, layout)
            # Without any column to carry, the texts: a table of no columns has no rows either.
            needed = None if typed is None else layout.carried(tuple(typed.names)) or layout.texts
            for rows in read_rows(checked.file, layout, needed):
                writer.write(rows, pieces.take(len(rows)))
                done += len(rows)
                progress(done)
            checked.check_unchanged()
    if pieces.left() or done != sum(checked.rows for checked in files):
        raise changed_while_read()
    flush(path)


def put_in_place(output_files: OutputFiles, work: WorkFile, columns: dict[str, Any]) -> None:
    """Give the whole output its name, having kept in the work file what it is.

    Args:
        output_files: of the output.
        work: is told what the output is.
        columns: of the output, for JSON.
    """
    if output_files.is_output(work.fact("output")):
        # Of this job with other columns. Once the work file describes the new one, nothing tells that this one is ours.
        output_files.out.unlink()
    # Together: the columns of one output beside the digest of another would let that one pass for finished.
    work.keep_facts(columns=columns, output=description_of(output_files.partial))
    output_files.partial.replace(output_files.out)
    flush(output_files.out.parent)


def write_record(output_files: OutputFiles, record: dict[str, Any]) -> None:
    """Write the record, whole or not at all."""
    temporary = output_files.partial_record
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    flush(temporary)
    temporary.replace(output_files.record)
    flush(output_files.record.parent)


def flush(path: Path) -> None:
    """Have the system write a file, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Pieces:
    """Takes arrays apart: what comes in pieces of some sizes goes out in pieces of others."""

    def __init__(self, pieces: Iterator[npt.NDArray[np.float32]]) -> None:
        self._pieces = pieces
        self._held = np.empty(0, dtype=np.float32)

    def take(self, count: int) -> npt.NDArray[np.float32]:
        """The next values, as many as asked for."""
        parts = []
        while count:
            if not len(self._held):
                piece = next(self._pieces, None)
                if piece is None:
                    raise changed_while_read()
                self._held = piece
            parts.append(self._held[:count])
            self._held = self._held[count:]
            count -= len(parts[-1])
        return np.concatenate(parts) if parts else self._held[:0]

    def left(self) -> bool:
        """Whether there are more values."""
        return len(self._held) > 0 or next(self._pieces, None) is not None
