"""What an operator wants to know: requests, failures, waiting, encoding and run times, batches, padding.

Times are counted in buckets of fixed bounds, so a percentile is right to within 6% and memory stays the same however
long the process runs.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

FailureKind = Literal["inference", "worker", "deadline", "overloaded", "closed", "cancelled"]
"""Why a request got no scores; 'worker' means that the thread which ran it died."""

_BUCKETS_PER_DECADE = 20
_SMALLEST_DECADE, _LARGEST_DECADE = -6, 4


@dataclass(frozen=True, slots=True)
class Times:
    """Times in seconds.

    Attributes:
        count: how many.
        mean: their exact mean; 0 where there are none.
        p50: median, to within 6%; likewise `p90` and `p99`.
        longest: exact.
    """

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class RerankerStats:
    """Counts since the model was loaded in this process.

    Attributes:
        requests: requests that were accepted; a call that ranks piece by piece makes several.
        answered: those that got their scores.
        failures: how many got none, by kind; all kinds are there.
        partial: answered ones whose deadline left pairs unscored.
        waiting_requests: requests not answered yet.
        queue_tokens: tokens that wait to be scored, of calls still encoding included (an estimate for those).
        wait: from the call to its first run, in seconds; a call that encodes first waits for that as well.
        encode: encoding a request's texts, in seconds.
        infer: runs, in seconds.
        runs: runs that succeeded.
        pairs: pairs they scored.
        batch_sizes: how many runs had up to so many pairs, by powers of two.
        padded_token_share: share of padding among the tokens that were run.
        time_factor: observed over predicted time of a run, the median of the last; 1 for a perfect cost model.
        workers_replaced: worker threads that died and were replaced.
    """

    requests: int
    answered: int
    failures: Mapping[FailureKind, int]
    partial: int
    waiting_requests: int
    queue_tokens: int
    wait: Times
    encode: Times
    infer: Times
    runs: int
    pairs: int
    batch_sizes: Mapping[int, int]
    padded_token_share: float
    time_factor: float
    workers_replaced: int


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a reranker can score.

    Attributes:
        ok: all threads live and it is open. Before the first call no threads are needed.
        workers: worker threads that live.
        workers_wanted: how many there should be once the first call has started them.
        workers_replaced: how many died and were replaced so far.
        last_error: the last failure of a thread or a run, in words; None where there was none.
        closed: whether `close` was called.
    """

    ok: bool
    workers: int
    workers_wanted: int
    workers_replaced: int
    last_error: str | None
    closed: bool


@dataclass(frozen=True, slots=True)
class BatchObserved:
    """One run, as an observer gets it.

    Attributes:
        pairs: its pairs.
        requests: how many requests they came from.
        length: padded tokens of each pair.
        tokens: tokens without padding.
        seconds: what it took on its processor.
        predicted_seconds: what the cost model said for one core.
        all_cores: whether it took all cores.
        error: why it failed, or None.
    """

    pairs: int
    requests: int
    length: int
    tokens: int
    seconds: float
    predicted_seconds: float
    all_cores: bool
    error: str | None


BatchObserver: TypeAlias = Callable[[BatchObserved], object]


class Histogram:
    """Counts of positive numbers in buckets that grow by a fixed factor (12%), from a microsecond to hours."""

    def __init__(self) -> None:
        """Start empty."""
        self._counts = [0] * ((_LARGEST_DECADE - _SMALLEST_DECADE) * _BUCKETS_PER_DECADE)
        self._count = 0
        self._sum = 0.0
        self._longest = 0.0

    def add(self, seconds: float) -> None:
        """Count a number."""
        index = int((math.log10(seconds) - _SMALLEST_DECADE) * _BUCKETS_PER_DECADE) if seconds > 0 else 0
        self._counts[min(max(index, 0), len(self._counts) - 1)] += 1
        self._count += 1
        self._sum += seconds
        self._longest = max(self._longest, seconds)

    def times(self) -> Times:
        """The numbers in short."""
        if not self._count:
            return Times(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        p50, p90, p99 = (min(self._percentile(share), self._longest) for share in (0.5, 0.9, 0.99))
        return Times(self._count, self._sum / self._count, p50, p90, p99, self._longest)

    def _percentile(self, share: float) -> float:
        """The geometric middle of the bucket that holds it."""
        rank = math.ceil(share * self._count)
        index = -1
        while rank > 0:
            index += 1
            rank -= self._counts[index]
        return float(10 ** (_SMALLEST_DECADE + (index + 0.5) / _BUCKETS_PER_DECADE))


@dataclass
class Statistics:
    """The counters behind `RerankerStats`. Safe to use from several threads."""

    requests: int = 0
    answered: int = 0
    partial: int = 0
    runs: int = 0
    pairs: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    workers_replaced: int = 0
    last_error: str | None = None
    failures: dict[FailureKind, int] = field(default_factory=dict)
    batch_sizes: dict[int, int] = field(default_factory=dict)
    wait: Histogram = field(default_factory=Histogram)
    encode: Histogram = field(default_factory=Histogram)
    infer: Histogram = field(default_factory=Histogram)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def submitted(self, encode_seconds: float | None) -> None:
        """Count a request that came in."""
        with self._lock:
            self.requests += 1
            if encode_seconds is not None:
                self.encode.add(encode_seconds)

    def answer(self, failure: FailureKind | None, waited: float | None, *, partial: bool = False) -> None:
        """Count a request's end.

        Args:
            failure: why it got no scores, or None.
            waited: seconds from its call to its first run; None where it had none.
            partial: whether it got only some of its scores.
        """
        with self._lock:
            if failure is None:
                self.answered += 1
                self.partial += partial
            else:
                self.failures[failure] = self.failures.get(failure, 0) + 1
            if waited is not None:
                self.wait.add(waited)

    def run(self, rows: int, tokens: int, run_tokens: int, seconds: float) -> None:
        """Count a run that succeeded: its pairs, their tokens, those worked on with padding, its time."""
        size = 1 << (rows - 1).bit_length()
        with self._lock:
            self.runs += 1
            self.pairs += rows
            self.tokens += tokens
            self.padded_tokens += run_tokens
            self.batch_sizes[size] = self.batch_sizes.get(size, 0) + 1
            self.infer.add(seconds)

    def worker_replaced(self) -> None:
        """Count a worker that died."""
        with self._lock:
            self.workers_replaced += 1

    def snapshot(self, *, refused: int, waiting: int, queue_tokens: int, time_factor: float) -> RerankerStats:
        """The counts now.

        Args:
            refused: calls that were refused for overload.
            waiting: requests not answered yet.
            queue_tokens: tokens that wait.
            time_factor: observed over predicted time.
        """
        with self._lock:
            failures: dict[FailureKind, int] = {kind: self.failures.get(kind, 0) for kind in get_args(FailureKind)}
            failures["overloaded"] = refused
            return RerankerStats(
                requests=self.requests,
                answered=self.answered,
                failures=MappingProxyType(failures),
                partial=self.partial,
                waiting_requests=waiting,
                queue_tokens=queue_tokens,
                wait=self.wait.times(),
                encode=self.encode.times(),
                infer=self.infer.times(),
                runs=self.runs,
                pairs=self.pairs,
                batch_sizes=MappingProxyType(dict(sorted(self.batch_sizes.items()))),
                padded_token_share=1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0,
                time_factor=time_factor,
                workers_replaced=self.workers_replaced,
            )


NOTHING_LOADED = (
    Statistics().snapshot(refused=0, waiting=0, queue_tokens=0, time_factor=1.0),
    Health(ok=False, workers=0, workers_wanted=0, workers_replaced=0, last_error=None, closed=True),
)
"""Of a reranker that was closed in a process that never loaded its model."""
