"""How many candidates to score next, when time is limited or early answers are wanted.

Candidates go in first-stage order, in chunks that are predicted to take a fair share of the time: small enough
that little is lost at the deadline, large enough that their runs fill the workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_SHARE_OF_LIMIT = 1 / 8
_SHORTEST = 0.01
"""Seconds below which a chunk's fixed costs, about half a millisecond, would show."""
_FIRST, _LONGEST = 0.05, 0.8
"""Seconds of the first chunk, where there is no limit, and of the largest; without a limit each doubles the last."""
_JUST_UNDER = 1 - 1e-9
"""Against a sum that misses its round number by an ulp."""
ENCODE_SECONDS_PER_UNIT = 1e-6
"""Assumed before the first chunk was encoded: a million characters a second."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Candidates that are encoded and submitted together.

    Attributes:
        indices: which, int64 (b,).
        units: their size in what its maker counts.
        work: predicted seconds, on one core, of these candidates and those after them.
        work_behind: the same of those after them alone.
    """

    indices: npt.NDArray[np.int64]
    units: int
    work: float
    work_behind: float


class TimedChunks:
    """Cuts candidates into chunks by predicted time."""

    def __init__(
        self,
        order: npt.NDArray[np.int64],
        seconds: npt.NDArray[np.float64],
        units: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        *,
        workers: int,
        limit: float | None,
        free_encoding: bool,
    ) -> None:
        """Nothing is taken yet.

        Args:
            order: candidates, most promising first, int64 (n,).
            seconds: predicted time of each on one core, in the caller's order, float64 (n,).
            units: characters of each, in the caller's order, int64 (n,).
            rows: rows of each, in the caller's order, int64 (n,); with several, all or none of them are worth a run.
            workers: how many runs go on at once.
            limit: seconds the call may take, or None.
            free_encoding: whether the candidates are encoded already.
        """
        self._order = order
        self._seconds = seconds[order]
        self._behind = np.concatenate([np.cumsum(self._seconds[::-1])[::-1], [0.0]])
        self._units = units[order]
        self._indivisible = np.where(rows[order] > 1, self._seconds, 0.0)
        self._workers = workers
        self._target = _FIRST if limit is None else min(_LONGEST, max(_SHORTEST, limit * _SHARE_OF_LIMIT))
        self._grows = limit is None
        self._encode_seconds = 0.0 if free_encoding else ENCODE_SECONDS_PER_UNIT
        self._learned = free_encoding
        self._place = 0

    def encoded(self, chunk: Chunk, seconds: float) -> None:
        """Learn how long encoding a chunk took."""
        if chunk.units and not self._learned:
            self._encode_seconds = seconds / chunk.units
            self._learned = True

    def take(self, left: float | None, time_factor: float) -> Chunk | None:
        """The next chunk, or None where no candidates or no time are left.

        A candidate is passed over where its encoding alone would exceed the time left, or where it has several rows and
        they would; where that leaves none at first, what was observed does not count.

        Args:
            left: seconds until the deadline, or None.
            time_factor: observed over predicted time.
        """
        if left is not None and left <= 0:
            return None
        start, stop = self._place, len(self._order)
        speed = time_factor / self._workers
        if left is not None:
            encoding = self._units[start:] * self._encode_seconds
            in_time = encoding + self._indivisible[start:] * speed <= left
            if start == 0 and not in_time.any():
                # Nothing of the call ran yet: what was observed may be old, so let the queue judge, which tries again.
                in_time = encoding + self._indivisible / self._workers <= left
            in_time = np.append(in_time, True)
            start += int(in_time.argmax())
            in_time = np.append(in_time[start - self._place : -1], False)
            stop = start + int(in_time.argmin())  # the next one too long is passed over when its turn comes
        if start == len(self._order):
            return None
        elapsed = np.cumsum(self._seconds[start:]) * speed
        count = max(self._workers, int(np.searchsorted(elapsed, self._target * _JUST_UNDER)) + 1)
        if left is not None:
            encoded = np.cumsum(self._units[start:]) * self._encode_seconds
            count = min(count, max(1, int(np.searchsorted(encoded, left, side="right"))))
        end = min(start + count, stop)
        self._place = end
        if self._grows:
            self._target = min(_LONGEST, 2 * self._target)
        units = int(self._units[start:end].sum())
        return Chunk(self._order[start:end], units, float(self._behind[start]), float(self._behind[end]))


def even_chunks(
    candidates: npt.NDArray[np.int64], seconds: npt.NDArray[np.float64], units: npt.NDArray[np.int64], at_once: int
) -> list[Chunk]:
    """Chunks of equal number, the longest candidates first: those of a chunk are of similar length.

    Args:
        candidates: which, int64 (m,).
        seconds: predicted time of each candidate there is, float64 (n,).
        units: size of each candidate there is, int64 (n,).
        at_once: candidates of a chunk.
    """
    order = candidates[np.argsort(-units[candidates], kind="stable")]
    seconds, units = seconds[order], units[order]
    return [
        Chunk(
            order[start : start + at_once],
            int(units[start : start + at_once].sum()),
            float(seconds[start:].sum()),
            float(seconds[start + at_once :].sum()),
        )
        for start in range(0, len(order), at_once)
    ]
