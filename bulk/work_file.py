"""Scores kept beside the output until it is written: an SQLite file, so that a process may be killed at any moment.

A block is a row and its own transaction, on disk before the next begins. The file stays locked as long as a process
has it open, so two never work on one output.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from crossrank.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

_SCHEMA_VERSION = 1
_TRIES = 3
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, scores BLOB NOT NULL, unscored INTEGER NOT NULL,
    truncated INTEGER NOT NULL, tokens INTEGER NOT NULL);
"""


class Counts(NamedTuple):
    """Sums over the kept blocks.

    Attributes:
        rows: of them.
        unscored: rows among them without a score.
        truncated: pairs among them that were not read to their end.
        tokens: that the model read.
    """

    rows: int
    unscored: int
    truncated: int
    tokens: int


class WorkFile:
    """The work file of an output; opened and locked when it is made."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            OutputError: another process has it open, it is no such file, or it cannot be written.
        """
        self.path = path
        for attempt in range(_TRIES):
            try:
                self._connection = self._open()
            except sqlite3.Error as error:
                # The process that had it open may have removed it between our opening and our lock: then it is moved.
                moved = error.sqlite_errorname == "SQLITE_READONLY_DBMOVED"
                if not moved or attempt == _TRIES - 1:
                    raise self._refusal(error) from error
            else:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def fact(self, name: str) -> Any:
        """What was kept under a name; None where nothing was."""
        with self._refused():
            row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep_facts(self, **facts: Any) -> None:
        """Keep values under their names, all or none of them."""
        rows = [(name, json.dumps(value)) for name, value in facts.items()]
        with self._refused(), self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    def keep_block(self, first: int, scores: npt.NDArray[np.float32], *, truncated: int, tokens: int) -> None:
        """Keep the scores of a block.

        Args:
            first: number of its first row: that after the last row kept.
            scores: float32 (n,), NaN where a row has none.
            truncated: how many pairs were not read to their end.
            tokens: that the model read.
        """
        blob = scores.astype("<f4").tobytes()
        with self._refused(), self._transaction():
            self._connection.execute(
                "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?)",
                (first, len(scores), blob, int(np.isnan(scores).sum()), truncated, tokens),
            )

    def counts(self) -> Counts:
        """Sums over all blocks.

        Raises:
            OutputError: the blocks do not follow on each other: something else wrote this file.
        """
        with self._refused():
            row = self._connection.execute(
                "SELECT total(count), total(unscored), total(truncated), total(tokens), "
                "coalesce(max(first + count), 0) FROM blocks"
            ).fetchone()
        *sums, end = map(int, row)
        counts = Counts(*sums)
        if counts.rows != end:
            raise OutputError(
                f"{self.path} is damaged: it has {counts.rows} rows up to row {end}; remove it to begin anew"
            )
        return counts

    def scores(self) -> Iterator[npt.NDArray[np.float32]]:
        """The scores of each block, in order."""
        with self._refused():
            for (blob,) in self._connection.execute("SELECT scores FROM blocks ORDER BY first"):
                yield np.frombuffer(blob, dtype="<f4").astype(np.float32, copy=False)

    def remove(self) -> None:
        """Close and remove the file."""
        self._connection.close()
        self.path.unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA synchronous = EXTRA")  # the folder as well, after each transaction
            connection.execute("BEGIN EXCLUSIVE")
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            # A write each time: SQLite then looks whether the file is still the one of this name.
            self._check_version(connection.execute("SELECT value FROM facts WHERE name = 'schema'").fetchone())
            connection.execute("INSERT OR REPLACE INTO facts VALUES ('schema', ?)", (str(_SCHEMA_VERSION),))
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_version(self, row: tuple[str] | None) -> None:
        if row not in (None, (str(_SCHEMA_VERSION),)):
            raise OutputError(f"{self.path} is of another version of crossrank; finish it there, or remove it")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def _refusal(self, error: sqlite3.Error) -> OutputError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_BUSY"):
            return OutputError(f"another process is scoring into this output: it has {self.path} open")
        if name.startswith("SQLITE_FULL"):
            return OutputError(
                f"the disk is full: {self.path} cannot grow. What was scored is kept; make room and give the same "
                "command again"
            )
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return OutputError(
                f"{self.path} is no work file of crossrank, or damaged ({error}); remove it to begin anew"
            )
        return OutputError(f"{self.path} cannot be used: {error} ({name})")
