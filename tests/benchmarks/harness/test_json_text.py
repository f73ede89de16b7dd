"""Figures as JSON and back."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from crossrank.benchmarks.harness.json_text import json_of, value_of


@dataclass(frozen=True)
class Part:
    name: str
    seconds: tuple[float, ...]
    of: dict[int, float | None]


def test_what_is_written_is_read_as_it_was():
    part = Part("caf\u00e9 \ud800", (0.1, 2.0), {8: None, 16: 1e-9})
    assert value_of(Part, json_of(part)) == part
    assert value_of(Part, json_of(part, indent=2)) == part


def test_numbers_that_json_lacks_become_strings():
    document = json_of(Part("x", (float("nan"), float("inf")), {}))
    assert json.loads(document, parse_constant=pytest.fail)["seconds"] == ["nan", "inf"]


@pytest.mark.parametrize("text", ["", "[]", '{"name": 1, "seconds": [], "of": {}}', '{"name": "x"}', "[" * 100_000])
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        value_of(Part, text)
