"""Rows of text files: JSON lines, and values between delimiters."""

from __future__ import annotations

import csv
import io
import json
import math
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crossrank.bulk.layout import check_names
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crossrank.bulk.layout import Layout
    from crossrank.bulk.pair_files import PairFile

_LONGEST_VALUE = 2**31 - 1
"""Characters of a value in CSV and TSV; Python's own limit is 128 KiB."""

_LIMIT = threading.Lock()
"""Held by the thread that has changed Python's limit."""


@contextmanager
def open_text(file: PairFile) -> Iterator[io.TextIOWrapper]:
    """Open a file as text, decompressed.

    Raises:
        InvalidInputError: within the `with` statement, where the file is not UTF-8 or its compressed data is damaged.
    """
    import pyarrow as pa

    try:
        with (
            pa.input_stream(str(file.path), compression=file.compression) as stream,
            io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text,
        ):
            yield text
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file.path} is not UTF-8: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InvalidInputError(f"{file.path} cannot be read as {file.compression or 'text'}: {error}") from error


def json_rows(file: PairFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with the number of its line; blank lines are skipped.

    Raises:
        InvalidInputError: a line is no JSON object, has a key twice, or holds a number that JSON or a double does not
            have.
    """
    with open_text(file) as text:
        for number, line in enumerate(_lines(text), start=1):
            if not line.strip():
                continue
            try:
                row = _DECODER.decode(line)
            except InvalidInputError as error:
                raise InvalidInputError(f"{file.place(number)}: {error}") from error
            except (ValueError, RecursionError) as error:
                raise InvalidInputError(f"{file.place(number)} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise InvalidInputError(f"{file.place(number)} is a {type(row).__name__}: an object expected")
            yield number, row


def delimited_header(file: PairFile, layout: Layout) -> tuple[str, ...]:
    """Names of the columns of a CSV or TSV file.

    Raises:
        InvalidInputError: the file has no header line, or one with a name twice.
    """
    if layout.header is not None:
        return layout.header
    with open_text(file) as text:
        _, names = next(_records(file, text, layout), (0, []))
    if not names:
        raise InvalidInputError(
            f"{file.path} is empty: a line with the names of the columns expected, or these given (header=, --header)"
        )
    check_names(names, str(file.path))
    return tuple(names)


def delimited_rows(file: PairFile, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """The values of each row of a CSV or TSV file, with the number of the line it ends on; empty lines are skipped.

    Raises:
        InvalidInputError: a row has another number of values than the header, or its quotes do not match.
    """
    columns = len(delimited_header(file, layout))
    with open_text(file) as text:
        records = _records(file, text, layout)
        if layout.header is None:
            next(records)
        for number, values in records:
            if len(values) != columns:
                hint = "" if layout.quotes else "; without quotes no value holds the delimiter or a line end"
                raise InvalidInputError(
                    f"{file.place(number)} has {len(values)} values: {columns} expected, as the header has{hint}"
                )
            yield number, values


def _records(file: PairFile, text: io.TextIOWrapper, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    if not layout.quotes:
        for number, line in enumerate(_lines(text), start=1):
            if line:
                yield number, line.split(file.delimiter)
        return
    reader = csv.reader(text, delimiter=file.delimiter, strict=True)
    try:
        while (values := _next_record(reader)) is not None:
            if values:
                yield reader.line_num, values
    except csv.Error as error:
        raise InvalidInputError(
            f"{file.place(reader.line_num)}: {error}. Quotes enclose a whole value and are doubled within it; "
            "where a quote is a character like others, say so (quotes=False, --no-quotes)"
        ) from error


def _next_record(reader: Iterator[list[str]]) -> list[str] | None:
    """The next record, however long its values; None at the end.

    Python's limit is one for the whole process, so it is another only while a record is read: rows are read for hours,
    and other threads, with a job of their own perhaps, go on meanwhile.
    """
    with _LIMIT:
        limit = csv.field_size_limit(_LONGEST_VALUE)
        try:
            return next(reader, None)
        finally:
            csv.field_size_limit(limit)


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Lines without their ends. Only line feeds end a line, so a carriage return or U+2028 may stand within a value."""
    text.reconfigure(newline="\n")
    for line in text:
        yield line.removesuffix("\n").removesuffix("\r")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is larger than a double holds")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        check_names([key for key, _ in pairs], "an object")
    return fields


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)
