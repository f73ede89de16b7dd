"""Figures as JSON and back: of result files, score files and the answers of worker processes."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter
from pydantic_core import to_json

Value = TypeVar("Value")


def json_of(value: object, *, indent: int | None = None) -> str:
    """A dataclass, a model or plain data as JSON; NaN and infinity, which JSON lacks, become strings.

    Args:
        value: what to write.
        indent: spaces of a level; None writes one line.
    """
    return to_json(value, indent=indent, inf_nan_mode="strings").decode()


def value_of(kind: type[Value], text: str | bytes) -> Value:
    """Read JSON as a type.

    Args:
        kind: a dataclass, or any type that pydantic knows.
        text: the JSON.

    Raises:
        ValueError: the text is no JSON of this type.
    """
    return TypeAdapter(kind).validate_json(text)
