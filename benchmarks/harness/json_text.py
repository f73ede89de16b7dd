"""Figures as JSON and back: of result files, score files and the answers of worker processes."""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

Value = TypeVar("Value")


def json_of(value: object, *, indent: int | None = None) -> str:
    """A dataclass, a model or plain data as JSON; NaN and infinity, which JSON lacks, become strings.

    Args:
        value: what to write; lone surrogates in texts are escaped.
        indent: spaces of a level; None writes one line.
    """
    return json.dumps(_finite(to_jsonable_python(value)), indent=indent)


def value_of(kind: type[Value], text: str) -> Value:
    """Read JSON as a type.

    Args:
        kind: a dataclass, or any type that pydantic knows.
        text: the JSON.

    Raises:
        ValueError: the text is no JSON of this type.
    """
    try:
        return checked(kind, json.loads(text))
    except RecursionError as error:
        raise ValueError(f"brackets are nested too deep: {error}") from error


def checked(kind: type[Value], value: object) -> Value:
    """JSON that is read already, as a type; as `value_of`."""
    return TypeAdapter(kind).validate_python(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
