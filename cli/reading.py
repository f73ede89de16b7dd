"""Reads documents for `rerank`: one per line, or JSONL with a text field."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal, TypeAlias

from crossrank.cli.common import FileContentError
from crossrank.engine.text.documents import TEXT_FIELD
from crossrank.errors import CrossrankError

STANDARD_INPUT = "-"
_JSONL_SUFFIXES = (".jsonl", ".ndjson")


InputFormat: TypeAlias = Literal["auto", "lines", "jsonl"]
"""Format of the file; auto decides by the file's name, and for other names by the first line."""


def read_documents(file: str, input_format: InputFormat) -> list[str | dict[str, Any]]:
    """Read documents; blank lines are skipped.

    Args:
        file: path, or '-' for standard input.
        input_format: how to read it.

    Raises:
        FileContentError: the file is not UTF-8, or a line is not a JSON object with a text field; the message has the
            number of the line.
        CrossrankError: standard input is closed.
        OSError: the file cannot be read.
    """
    if file == STANDARD_INPUT and sys.stdin is None:
        raise CrossrankError("standard input is closed; documents on standard input, or a file as argument, expected")
    raw = sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileContentError(f"{file} is not UTF-8: {error}") from error
    # Only line feeds end a line: str.splitlines would also cut at form feeds and U+2028 inside a document.
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not _is_jsonl(file, input_format, lines):
        return [line for _, line in lines]
    return [_json_document(file, number, line) for number, line in lines]


def _is_jsonl(file: str, input_format: InputFormat, lines: list[tuple[int, str]]) -> bool:
    if input_format != "auto":
        return input_format == "jsonl"
    if file.lower().endswith(_JSONL_SUFFIXES):
        return True
    try:
        first = json.loads(lines[0][1]) if lines else None
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and TEXT_FIELD in first


def _json_document(file: str, number: int, line: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:  # beyond JSONDecodeError: numbers too long, brackets nested too deep
        raise FileContentError(f"{file}, line {number} is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get(TEXT_FIELD), str):
        raise FileContentError(f"{file}, line {number}: an object with a string {TEXT_FIELD!r} field expected")
    return document
