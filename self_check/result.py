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
        passed: None where the check does not apply; `detail` says why.
        detail: the outcome in a sentence.
        figures: what was measured, for the report file.
        precision: of the graph that was checked; None for a check of all precisions.
    """

    name: str
    passed: bool | None
    detail: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    precision: Precision | None = None

    @property
    def verdict(self) -> str:
        """PASS, FAIL or n.a., for a table."""
        return "n.a." if self.passed is None else "PASS" if self.passed else "FAIL"

    def as_json(self) -> dict[str, Any]:
        """The result as the report file holds it."""
        return {
            "name": self.name,
            "precision": self.precision,
            "passed": self.passed,
            "detail": self.detail,
            "figures": _json_value(self.figures),
        }


def _json_value(value: Any) -> Any:
    """A value as JSON can hold it; NaN and infinity, which JSON lacks, become strings."""
    if isinstance(value, Mapping):
        return {str(name): _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
