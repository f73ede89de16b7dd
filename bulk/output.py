"""Writes the output: rows with their scores, a few at a time, the same bytes for the same rows and scores."""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from crossrank.bulk.rows import typed_column
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import pyarrow as pa

    from crossrank.bulk.layout import Layout
    from crossrank.bulk.pair_files import PairFile
    from crossrank.bulk.rows import Rows

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_GROUP_ROWS, _GROUP_BYTES = 65536, 32 << 20
"""Of a row group of parquet, which is held until it is full."""


class RowWriter(Protocol):
    """Takes rows in their order."""

    def write(self, rows: Rows, scores: npt.NDArray[np.float32]) -> None:
        """Write rows with their scores, float32 (n,), NaN where a row has none."""


class Output:
    """What is known of an output by its format, and how it is written.

    Attributes:
        has_columns: whether all rows have the same columns, of one type each.
        refuses_values: whether it depends on a row's values if they can be written.
    """

    def __init__(self, file: PairFile, layout: Layout) -> None:
        self._file = file
        self._layout = layout
        self.has_columns = file.form != "jsonl"
        self.refuses_values = file.form in {"csv", "tsv"} and not layout.quotes

    def check_columns(self, schema: pa.Schema) -> None:
        """Refuse columns that this format does not have.

        Raises:
            InvalidInputError: it has no such type, or cannot hold a column's name.
        """
        for name in (*schema.names, self._layout.score) if self.refuses_values else ():
            if self._needs_quotes(name):
                raise InvalidInputError(
                    f"{self._file.path}: the column name {name!r} holds the delimiter or a line end, which cannot be "
                    "written without quotes; write with quotes, parquet or JSON lines, or name other columns (keep=, "
                    "--keep, score=, --score-column)"
                )
        if self._file.form == "parquet":
            _check_parquet(self._file.path, schema)
            return
        wrong = [column for column in schema if not _as_text(column.type, nested=self._file.form == "jsonl")]
        if wrong:
            raise InvalidInputError(
                f"{self._file.path}: {self._file.form} has no values of type {wrong[0].type}, which the column "
                f"{wrong[0].name!r} has; write parquet, or leave the column out (keep=, --keep)"
            )

    def check_values(self, rows: Rows) -> None:
        """Refuse values that cannot be written without quotes.

        Raises:
            InvalidInputError: a value holds the delimiter or a line end.
        """
        for name in self._layout.carried(tuple(_names(rows))):
            for index, value in enumerate(rows.column(name)):
                if isinstance(value, str) and self._needs_quotes(value):
                    raise InvalidInputError(
                        f"{rows.place(index)}: {name!r} holds the delimiter or a line end, which cannot be written "
                        "without quotes; write with quotes, parquet or JSON lines"
                    )

    def _needs_quotes(self, text: str) -> bool:
        return any(end in text for end in (self._file.delimiter, "\n", "\r"))

    @contextmanager
    def open(self, path: Path, schema: pa.Schema | None) -> Iterator[RowWriter]:
        """A writer of a new file.

        Args:
            path: of the file.
            schema: of the carried columns; None where each row has its own.
        """
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet

        columns = None if schema is None else schema.append(pa.field(self._layout.score, pa.float32()))
        if self._file.form == "parquet":
            with pyarrow.parquet.ParquetWriter(path, columns, compression="zstd") as parquet:
                groups = _GroupWriter(parquet, columns)
                yield groups
                groups.flush()
            return
        with pa.output_stream(str(path), compression=self._file.compression) as stream:
            if self._file.form == "jsonl":
                yield _JsonWriter(stream, self._layout)
            elif self._layout.quotes:
                options = pyarrow.csv.WriteOptions(delimiter=self._file.delimiter)
                with pyarrow.csv.CSVWriter(stream, _plain_schema(columns), write_options=options) as writer:
                    yield _QuotedWriter(writer, columns)
            else:
                lines = _BareWriter(stream, columns, self._file.delimiter)
                lines.write_header()
                yield lines


class _GroupWriter:
    """Parquet, in row groups of a size that depends on the rows alone."""

    def __init__(self, writer: Any, columns: pa.Schema) -> None:
        self._writer, self._columns = writer, columns
        self._held: list[Any] = []
        self._rows = self._bytes = 0

    def write(self, rows: Rows, scores: npt.NDArray[np.float32]) -> None:
        table = _with_scores(rows, scores, self._columns)
        self._held.append(table)
        self._rows += len(table)
        self._bytes += table.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a row group."""
        import pyarrow as pa

        if self._held:
            self._writer.write_table(pa.concat_tables(self._held), row_group_size=self._rows)
        self._held, self._rows, self._bytes = [], 0, 0


class _QuotedWriter:
    """CSV or TSV with quotes around every text."""

    def __init__(self, writer: Any, columns: pa.Schema) -> None:
        self._writer, self._columns = writer, columns

    def write(self, rows: Rows, scores: npt.NDArray[np.float32]) -> None:
        self._writer.write_table(_plain(_with_scores(rows, scores, self._columns)))


class _BareWriter:
    """CSV or TSV without quotes."""

    def __init__(self, stream: Any, columns: pa.Schema, delimiter: str) -> None:
        self._stream, self._columns, self._delimiter = stream, columns, delimiter

    def write_header(self) -> None:
        """Write the names of the columns."""
        self._write(self._columns.names)

    def write(self, rows: Rows, scores: npt.NDArray[np.float32]) -> None:
        import pyarrow as pa

        table = _plain(_with_scores(rows, scores, self._columns))
        texts = [column.cast(pa.string()).to_pylist() for column in table.columns]
        for values in zip(*texts, strict=True):
            self._write(["" if value is None else value for value in values])

    def _write(self, values: Sequence[str]) -> None:
        self._stream.write((self._delimiter.join(values) + "\n").encode())


class _JsonWriter:
    """JSON lines: the fields of the row as it was read, and its score."""

    def __init__(self, stream: Any, layout: Layout) -> None:
        self._stream, self._layout = stream, layout

    def write(self, rows: Rows, scores: npt.NDArray[np.float32]) -> None:
        keep = self._layout.keep
        typed = not isinstance(rows.values, list)
        objects = _without_nan(_plain(rows.values).to_pylist()) if typed else rows.values
        for row, score in zip(objects, scores, strict=True):
            carried = row if keep is None else {name: row[name] for name in keep if name in row}
            # As many digits as tell the float32 from its neighbours.
            number = None if np.isnan(score) else float(str(score))
            self._stream.write(_json_line({**carried, self._layout.score: number}))


def _with_scores(rows: Rows, scores: npt.NDArray[np.float32], columns: pa.Schema) -> pa.Table:
    """Rows as a table of the output's columns, the last of them the scores."""
    import pyarrow as pa

    arrays = [typed_column(rows, column) for column in list(columns)[:-1]]
    return pa.table([*arrays, pa.array(scores, from_pandas=True)], schema=columns)


def _check_parquet(path: Path, schema: pa.Schema) -> None:
    """Refuse types that parquet does not have, by what the writer itself says, such as structs without fields."""
    import pyarrow as pa
    import pyarrow.parquet

    for column in schema:
        try:
            pyarrow.parquet.ParquetWriter(pa.BufferOutputStream(), pa.schema([column])).close()
        except pa.ArrowException as error:
            raise InvalidInputError(
                f"{path}: parquet cannot hold the column {column.name!r}, which is {column.type} ({error}); write JSON "
                "lines, or leave the column out (keep=, --keep)"
            ) from error


def _names(rows: Rows) -> list[str]:
    if isinstance(rows.values, list):
        return list(dict.fromkeys(key for row in rows.values for key in row))
    names: list[str] = rows.values.column_names
    return names


def _json_line(row: dict[str, Any]) -> bytes:
    try:
        return (_ENCODER.encode(row) + "\n").encode()
    except UnicodeEncodeError:  # lone surrogates, which JSON can only escape
        return (json.dumps(row, allow_nan=False) + "\n").encode()


def _without_nan(value: Any) -> Any:
    """A value with None for numbers that JSON does not have; a parquet column may hold them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list) else value


def _as_text(kind: pa.DataType, *, nested: bool) -> bool:
    """Whether text files have values of a type. Those of JSON may be lists and structs of what JSON has itself."""
    import pyarrow as pa

    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind):
        return nested and _native(kind.value_type)
    if types.is_struct(kind):
        return nested and all(_native(child.type) for child in kind)
    return _native(kind) or types.is_temporal(kind) or types.is_decimal(kind)


def _native(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_struct(kind):
        return _as_text(kind, nested=True)
    tests = (types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_string)
    return any(test(kind) for test in tests) or types.is_large_string(kind) or types.is_string_view(kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    types = pa.types
    as_string = types.is_temporal(kind) or types.is_decimal(kind) or types.is_string_view(kind) or types.is_null(kind)
    return pa.string() if as_string else kind


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """Columns with times, dates and decimals as texts."""
    import pyarrow as pa

    return pa.schema([(column.name, _plain_type(column.type)) for column in schema])


def _plain(table: pa.Table) -> pa.Table:
    return table.cast(_plain_schema(table.schema))
