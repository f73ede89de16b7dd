"""Figures as JSON and back: of result files, score files and the answers of worker processes."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

Value = TypeVar("Value")


def json_of(value: object, *, indent: int | None = None) -> str:
    """A dataclass, a model or plain data as JSON; NaN and infinity, which JSON lacks, become strings.

    Args:
        value: what to write.
        indent: spaces of a level; None writes one line.
    """
    return to_json(value, indent=indent, inf_nan_mode="strings").decode()


def value_of(kind: type[Value], text: str) -> Value:
    """Read JSON as a type.

    Args:
        kind: a dataclass, or any type that pydantic knows.
        text: the JSON.

    Raises:
        ValueError: the text is no JSON of this type.
    """
    return checked(kind, from_json(text))


def checked(kind: type[Value], value: object) -> Value:
    """JSON that is read already, as a type; as `value_of`."""
    return TypeAdapter(kind).validate_python(value)
