"""The pass over all rows before any is scored: what would fail hours later is refused now.

It counts the rows, finds those without texts, and finds the columns of the output with their types.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from crossrank.bulk.rows import columns_of, read_rows, typed_column
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from crossrank.bulk.layout import Layout
    from crossrank.bulk.output import Output
    from crossrank.bulk.pair_files import PairFile
    from crossrank.bulk.rows import Rows

OnError: TypeAlias = Literal["fail", "null"]
"""What to do with a row that has no score: 'fail' refuses all, 'null' leaves its score empty."""

_NAMED_ROWS = 5
"""Rows without texts that an error names."""


@dataclass(frozen=True)
class CheckedFile:
    """A file as it was when it was checked.

    Attributes:
        file: which.
        size: bytes.
        changed: time of its last change, in nanoseconds.
        sha256: of its bytes.
        rows: how many it has.
    """

    file: PairFile
    size: int
    changed: int
    sha256: str
    rows: int

    def check_unchanged(self) -> None:
        """Refuse a file that was changed since.

        Raises:
            InvalidInputError: it was.
        """
        now = self.file.path.stat()
        if (now.st_size, now.st_mtime_ns) != (self.size, self.changed):
            raise changed_while_read(str(self.file.path))


@dataclass
class _Findings:
    """What the pass has found so far.

    Attributes:
        rows: read.
        bad: rows without a query or document, the first in words.
        bad_count: how many there are.
        schema: of the columns that are carried.
        kept: columns to keep that some row has; those of JSON lines that no object has are in the schema, too.
        widened: carried columns whose values have several types, so that the output has another than some of them.
    """

    rows: int = 0
    bad: list[str] = field(default_factory=list)
    bad_count: int = 0
    schema: pa.Schema | None = None
    kept: set[str] = field(default_factory=set)
    widened: set[str] = field(default_factory=set)


def check_files(
    files: Sequence[PairFile], layout: Layout, output: Output, on_error: OnError, progress: Callable[[int], None]
) -> tuple[list[CheckedFile], pa.Schema | None]:
    """Read all rows once.

    Args:
        files: to read.
        layout: of their columns.
        output: that will be written; it says what it cannot hold.
        on_error: whether rows without texts are refused.
        progress: called with the number of rows read so far.

    Returns:
        The files, and the columns that are carried to the output; None where JSON lines are written of JSON lines
        alone, each with its own.

    Raises:
        InvalidInputError: the files cannot be read, do not have the columns, or hold what the output cannot.
    """
    import pyarrow as pa

    found, checked = _Findings(), []
    names: frozenset[str] | None = None
    for file in files:
        before = file.path.stat()
        with file.path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        schema = columns_of(file, layout)
        if schema is not None:
            carried = _check_columns(file, schema, layout)
            if names is not None and names != frozenset(carried.names):
                raise InvalidInputError(
                    f"{file.path} has the columns {sorted(carried.names)}, files before it {sorted(names)}: the same "
                    "expected; name those to carry to the output (keep=, --keep)"
                )
            names = frozenset(carried.names)
            found.kept |= names
            _merge(found, carried, str(file.path))
        start = found.rows
        for rows in read_rows(file, layout, None if schema is None else _needed(layout, output, carried.names)):
            _check_rows(rows, layout, output, found)
            found.rows += len(rows)
            progress(found.rows)
        checked.append(CheckedFile(file, before.st_size, before.st_mtime_ns, sha256, found.rows - start))
        checked[-1].check_unchanged()
    if found.bad_count and on_error == "fail":
        more = found.bad_count - len(found.bad)
        also = f"; and {more} more" if more else ""
        raise InvalidInputError(
            f"{'; '.join(found.bad)}{also}. Mend them, or leave their scores empty (on_error='null', --on-error null)"
        )
    if found.schema is None and output.has_columns:
        found.schema = pa.schema([])
    _check_found(found, layout, output)
    if output.has_columns and found.widened:
        _check_widened(files, layout, found)
    return checked, found.schema


def changed_while_read(which: str = "the files of pairs") -> InvalidInputError:
    """The error for files that are no longer what they were when they were checked."""
    return InvalidInputError(f"{which} changed while being read: files that stay as they are expected")


def _check_columns(file: PairFile, schema: pa.Schema, layout: Layout) -> pa.Schema:
    """The carried columns of a file whose columns have names and types."""
    import pyarrow as pa

    carried = layout.carried(tuple(schema.names))
    missing = [name for name in dict.fromkeys((*layout.texts, *carried)) if name not in schema.names]
    if missing:
        raise InvalidInputError(
            f"{file.path} has no column {', '.join(map(repr, missing))}; its columns are {schema.names}"
        )
    for name in layout.texts:
        kind = schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            if pa.types.is_null(kind):
                continue
            raise InvalidInputError(f"{file.path}: the column {name!r} is {kind}: text expected")
    if layout.score in carried:
        raise _same_name(str(file.path), layout)
    return pa.schema([schema.field(name) for name in carried])


def _needed(layout: Layout, output: Output, carried: Sequence[str]) -> list[str]:
    return list(dict.fromkeys((*layout.texts, *(carried if output.refuses_values else ()))))


def _check_rows(rows: Rows, layout: Layout, output: Output, found: _Findings) -> None:
    texts = {name: rows.column(name) for name in layout.texts}
    for index in range(len(rows)):
        wrong = next((name for name, values in texts.items() if not isinstance(values[index], str)), None)
        if wrong is not None:
            found.bad_count += 1
            if len(found.bad) < _NAMED_ROWS:
                absent = isinstance(rows.values, list) and wrong not in rows.values[index]
                kind = "missing" if absent else _kind(texts[wrong][index])
                found.bad.append(f"{rows.place(index)}: {wrong!r} is {kind}, text expected")
    if isinstance(rows.values, list):
        if layout.keep is None:
            for index, row in enumerate(rows.values):
                if layout.score in row:
                    raise _same_name(rows.place(index), layout)
        else:
            found.kept.update(name for row in rows.values for name in layout.keep if name in row)
        if output.has_columns:
            _merge(found, _inferred(rows, layout), f"{rows.place(0)} and after")
    if output.refuses_values:
        output.check_values(rows)


def _inferred(rows: Rows, layout: Layout) -> pa.Schema:
    """Columns of some objects of JSON lines."""
    import pyarrow as pa

    fields = []
    for name in layout.carried(tuple(dict.fromkeys(key for row in rows.values for key in row))):
        _check_name(name, rows)
        try:
            fields.append((name, pa.array(rows.column(name)).type))
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise InvalidInputError(
                f"{rows.place(0)} and after: the values of {name!r} do not fit one column ({error}); write JSON lines, "
                "or leave the column out (keep=, --keep)"
            ) from error
    return pa.schema(fields)


def _check_name(name: str, rows: Rows) -> None:
    """Refuse half of a surrogate pair, which JSON can escape and no column's name can hold."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        place = next(index for index, row in enumerate(rows.values) if name in row)
        raise InvalidInputError(
            f"{rows.place(place)}: the key {name!r} is no Unicode text, which the name of a column has to be; write "
            "JSON lines, or leave it out (keep=, --keep)"
        ) from error


def _merge(found: _Findings, schema: pa.Schema, where: str) -> None:
    import pyarrow as pa

    before = found.schema
    if before is None:
        found.schema = schema
        return
    try:
        found.schema = pa.unify_schemas([before, schema], promote_options="permissive").remove_metadata()
    except pa.ArrowException as error:
        raise InvalidInputError(
            f"{where}: values do not fit the columns before ({error}); columns of one type expected, or leave the "
            "column out (keep=, --keep)"
        ) from error

    for one in (before, schema):
        found.widened.update(
            column.name
            for column in one
            if not pa.types.is_null(column.type) and column.type != found.schema.field(column.name).type
        )


def _check_widened(files: Sequence[PairFile], layout: Layout, found: _Findings) -> None:
    """Convert all values of columns of several types as they are when they are written.

    A type that holds all values is not always there: a double holds no whole number above 2**53 for certain.
    """
    import pyarrow as pa

    schema = pa.schema([column for column in found.schema or () if column.name in found.widened])
    for file in files:
        typed = columns_of(file, layout)
        columns = None if typed is None else [name for name in schema.names if name in typed.names]
        for rows in read_rows(file, layout, columns) if columns != [] else ():
            for column in schema:
                try:
                    typed_column(rows, column)
                except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                    raise InvalidInputError(
                        f"{rows.place(0)} and after: {column.name!r} is {column.type} for values elsewhere, which not "
                        f"all values here fit ({error}); write JSON lines, or leave the column out (keep=, --keep)"
                    ) from error


def _check_found(found: _Findings, layout: Layout, output: Output) -> None:
    if found.schema is not None:
        output.check_columns(found.schema)
    missing = [name for name in layout.keep or () if name not in found.kept]
    if found.rows and missing:
        raise InvalidInputError(f"no row has the column {missing[0]!r}, which is to be kept")


def _same_name(where: str, layout: Layout) -> InvalidInputError:
    return InvalidInputError(
        f"{where} has a column {layout.score!r} already; name the scores otherwise (score=, --score-column), or name "
        "the columns to carry (keep=, --keep)"
    )


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"
