"""The outcome of one check."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossrank.models.manifest import Precision


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        passed: None where it does not apply here; `detail` says why.
        detail: what was found, in a sentence.
        figures: what was measured, for the report file.
        precision: of the graph that was checked; None for what concerns them all.
    """

    name: str
    passed: bool | None
    detail: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    precision: Precision | None = None

    @property
    def verdict(self) -> str:
        """In a word, for a table."""
        return "n.a." if self.passed is None else "PASS" if self.passed else "FAIL"

    def as_json(self) -> dict[str, Any]:
        """For the report file."""
        return {
            "name": self.name,
            "precision": self.precision,
            "passed": self.passed,
            "detail": self.detail,
            "figures": _plain(self.figures),
        }


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers that are none, as words."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
