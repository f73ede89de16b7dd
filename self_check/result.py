"""The outcome of one check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        seconds: that the check took.
    """

    name: str
    passed: bool | None
    detail: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    precision: Precision | None = None
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """PASS, FAIL or n.a., for a table."""
        return "n.a." if self.passed is None else "PASS" if self.passed else "FAIL"
