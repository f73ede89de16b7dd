"""Rows of any file, a few at a time: what of them is held never depends on how many there are."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from crossrank.bulk.text_rows import delimited_header, delimited_rows, json_rows
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from crossrank.bulk.layout import Layout
    from crossrank.bulk.pair_files import PairFile

ROWS_AT_ONCE = 64
"""Rows that are read together: few, because one may hold megabytes."""

_BUFFER = 1 << 20
"""Bytes of a parquet column that are read at once; otherwise a whole row group would be."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a file, one after another.

    Attributes:
        values: a table; or the objects of JSON lines, whose fields vary.
        places: the line of each, or its number from 1 in a parquet file.
        file: that they are of.
    """

    values: pa.Table | list[dict[str, Any]]
    places: Sequence[int]
    file: PairFile

    def __len__(self) -> int:
        return len(self.places)

    def column(self, name: str) -> list[Any]:
        """The values of a column; None where a row has none."""
        if isinstance(self.values, list):
            return [row.get(name) for row in self.values]
        values: list[Any] = self.values.column(name).to_pylist()
        return values

    def place(self, index: int) -> str:
        """Where a row is, in words."""
        return self.file.place(self.places[index])


def typed_column(rows: Rows, column: pa.Field) -> pa.Array | pa.ChunkedArray:
    """The values of a column in the type that the output has for it; nulls where the file has no such column.

    Raises:
        pyarrow.ArrowException: a value does not fit the type.
    """
    import pyarrow as pa

    if isinstance(rows.values, list):
        return pa.array(rows.column(column.name), type=column.type)
    if column.name not in rows.values.column_names:  # fields of JSON lines that are read beside this file
        return pa.nulls(len(rows), column.type)
    return rows.values.column(column.name).cast(column.type)


def columns_of(file: PairFile, layout: Layout) -> pa.Schema | None:
    """Names and types of a file's columns; None for JSON lines, where each row has its own.

    Raises:
        InvalidInputError: it is no such file, or its columns cannot be told apart.
    """
    import pyarrow as pa

    if file.form == "jsonl":
        return None
    if file.form == "parquet":
        with _open_parquet(file) as reader:
            schema = reader.schema_arrow
        if len(set(schema.names)) < len(schema.names):
            raise InvalidInputError(f"{file.path}: two columns have one name; different names expected")
        return pa.schema([_decoded(field) for field in schema])
    return pa.schema([(name, pa.string()) for name in delimited_header(file, layout)])


def read_rows(file: PairFile, layout: Layout, columns: Sequence[str] | None = None) -> Iterator[Rows]:
    """The rows of a file in their order.

    Args:
        file: to read.
        layout: how CSV and TSV are written.
        columns: that are needed; None for all. Rows of JSON lines are always whole.

    Raises:
        InvalidInputError: the file is damaged, or not what its name says.
    """
    import pyarrow as pa

    if file.form == "parquet":
        yield from _parquet_rows(file, columns)
        return
    if file.form == "jsonl":
        objects = json_rows(file)
        while some := list(islice(objects, ROWS_AT_ONCE)):
            yield Rows([row for _, row in some], [line for line, _ in some], file)
        return
    names = delimited_header(file, layout)
    wanted = range(len(names)) if columns is None else [names.index(name) for name in columns]
    records = delimited_rows(file, layout)
    while lines := list(islice(records, ROWS_AT_ONCE)):
        arrays = [pa.array([values[index] for _, values in lines], type=pa.string()) for index in wanted]
        yield Rows(pa.table(arrays, names=[names[index] for index in wanted]), [line for line, _ in lines], file)


def _parquet_rows(file: PairFile, columns: Sequence[str] | None) -> Iterator[Rows]:
    import pyarrow as pa

    with _open_parquet(file) as reader:
        first = 1
        wanted = None if columns is None else list(columns)
        # use_threads would decode all columns at once, and next row groups ahead.
        for batch in reader.iter_batches(ROWS_AT_ONCE, columns=wanted, use_threads=False):
            table = pa.Table.from_batches([batch])
            table = table.cast(pa.schema([_decoded(field) for field in table.schema]))
            table = table if wanted is None else table.select(wanted)
            yield Rows(table, range(first, first + len(table)), file)
            first += len(table)


@contextmanager
def _open_parquet(file: PairFile) -> Iterator[Any]:
    """Open a parquet file.

    Raises:
        InvalidInputError: also within the `with` statement, where the file is damaged or no parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(
            file.path, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
        ) as reader:
            yield reader
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InvalidInputError(f"{file.path} cannot be read as parquet: {error}") from error


def _decoded(field: pa.Field) -> pa.Field:
    """A column as its values are; dictionaries are how parquet writes them."""
    import pyarrow as pa

    bare = field.remove_metadata()
    return bare.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else bare
