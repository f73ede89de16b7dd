"""When a call began, and when its caller waits no longer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from numbers import Integral

from crossrank.engine.argument_checks import milliseconds
from crossrank.engine.schedule.request import HIGHEST_PRIORITY, LOWEST_PRIORITY, Terms
from crossrank.errors import InvalidInputError

_GRACE = 0.05
"""Share of the time limit for which a run that should have been done at the deadline is still waited for."""


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """A call's time and priority. Points in time are on the scheduler's clock.

    Attributes:
        began: when the call was made.
        seconds: how long it may take, or None.
        priority: its priority.
    """

    began: float
    seconds: float | None
    priority: int

    @classmethod
    def of(cls, now: float, deadline_ms: float | None, priority: int = 0) -> TimeLimit:
        """Check what a caller gave.

        Args:
            now: when the call was made.
            deadline_ms: milliseconds from then on, or None for no limit.
            priority: larger goes earlier.

        Raises:
            InvalidInputError: a value is outside its range.
        """
        whole: object = priority
        if (
            isinstance(whole, bool)
            or not isinstance(whole, Integral)
            or not LOWEST_PRIORITY <= int(whole) <= HIGHEST_PRIORITY
        ):
            raise InvalidInputError(
                f"priority={priority!r}: a whole number from {LOWEST_PRIORITY} to {HIGHEST_PRIORITY} expected"
            )
        seconds = None if deadline_ms is None else milliseconds("deadline_ms", deadline_ms) / 1000
        return cls(now, seconds, int(priority))

    @property
    def deadline(self) -> float | None:
        """When the caller waits no longer, or None."""
        return None if self.seconds is None else self.began + self.seconds

    def earlier(self, seconds: float) -> TimeLimit:
        """The same call with so much less time, where it is limited."""
        if self.seconds is None:
            return self
        return dataclasses.replace(self, seconds=max(0.0, self.seconds - seconds))

    def terms(
        self,
        *,
        encode_seconds: float | None = None,
        partial: bool = False,
        work_behind: float = 0.0,
        expected: float | None = None,
    ) -> Terms:
        """The terms of a request of this call; for the arguments see `Terms`."""
        return Terms(
            arrival=self.began,
            priority=self.priority,
            deadline=self.deadline,
            grace=_GRACE * (self.seconds or 0.0),
            partial=partial,
            work_behind=work_behind,
            encode_seconds=encode_seconds,
            expected=expected,
        )
