"""What a small call waits for large ones: `python -m crossrank.benchmarks.load.neighbours`.

Ten documents are ranked again and again, first on an idle engine, then while other callers rank a thousand documents
each, or send a document of 2 MB. The idle time is measured before and after each scenario, because a machine with
other work changes; what counts is the ratio. `--scenario` measures some scenarios alone, `--seconds` says how long each
measurement takes; all of them take some seven minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.benchmarks.harness.passages import standard_library_passages
from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.errors import ClosedError, Overloaded
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crossrank.engine.call.results import RankResult

DOCUMENTS, THOUSAND = 10, 1000
_WORDS_OF_A_DOCUMENT = 60
_MEGABYTES = 2_000_000
_PAUSE = 0.05
_DEADLINE_MS = 200.0
_IDLE_SHARE = 0.25
"""Of the seconds of a measurement, how long the idle engine is measured before it and after it."""
_FEWEST_CALLS = 5
THREADS, EVENT_LOOP = "threads", "event-loop"
SCENARIOS = {"1x1000": (1, THOUSAND), "3x1000": (3, THOUSAND), "10x1000": (10, THOUSAND), "4x2MB": (4, 1)}
"""How many other callers, and how many documents each of them sends: one is a document of 2 MB of words."""


@dataclass(frozen=True)
class Waited:
    """Times of small calls in milliseconds, and how many were refused.

    Attributes:
        scenario: beside what, one of `SCENARIOS`.
        caller: 'threads' or 'event-loop'.
        deadline_ms: of the small calls, or None.
        calls: small calls that were answered.
        idle: median on the idle engine, before and after.
        median: of the calls.
        p99: of the calls; of fewer than a hundred the worst.
        worst: of the calls.
        scored: share of their documents that were scored.
        refused: calls that were refused as `Overloaded`.
    """

    scenario: str
    caller: str
    deadline_ms: float | None
    calls: int
    idle: float
    median: float
    p99: float
    worst: float
    scored: float
    refused: int


@dataclass
class _Small:
    """What small calls took, in milliseconds, as far as they were made."""

    times: list[float] = field(default_factory=list)
    scored: int = 0
    refused: int = 0

    def answered(self, ranking: RankResult, seconds: float) -> None:
        self.times.append(seconds * 1000)
        self.scored += ranking.scored

    def goes_on(self, until: float) -> bool:
        return time.perf_counter() < until or len(self.times) + self.refused < _FEWEST_CALLS


class Neighbours:
    """Small calls on one reranker, beside large ones from threads."""

    def __init__(self, reranker: Reranker, seconds: float) -> None:
        """Prepare the texts.

        Args:
            reranker: shared by all callers.
            seconds: how long small calls are made beside the large ones.
        """
        self._reranker = reranker
        self._seconds = seconds
        self._random = random.Random(5)  # noqa: S311
        self._words = " ".join(standard_library_passages().texts).split()

    def documents(self, count: int) -> list[str]:
        """Documents of which no two are equal."""
        return [" ".join(self._random.choices(self._words, k=_WORDS_OF_A_DOCUMENT)) for _ in range(count)]

    def large_calls(self, scenario: str) -> list[Callable[[], object]]:
        """The calls of a scenario that are made beside the small ones."""
        callers, count = SCENARIOS[scenario]
        if count > 1:
            lists = [self.documents(count) for _ in range(callers)]
        else:
            text = " ".join(self.documents(100))
            lists = [[(text * (_MEGABYTES // len(text) + 1))[:_MEGABYTES]]] * callers
        return [partial(self._reranker.rank, "how to write a file", documents) for documents in lists]

    def measure(self, scenario: str, caller: str, deadline_ms: float | None) -> Waited:
        """Time small calls while each of the large ones is made again and again; then the reranker is closed.

        Args:
            scenario: one of `SCENARIOS`.
            caller: whether the small calls come from 'threads' or an 'event-loop'.
            deadline_ms: of the small calls, or None.
        """
        idle = self._small(caller, None, _IDLE_SHARE * self._seconds).times
        with _repeated(self.large_calls(scenario), self._reranker):
            small = self._small(caller, deadline_ms, self._seconds)
        with Reranker(precision="int8", threads=2) as self._reranker:
            self._reranker.warmup()
            idle += self._small(caller, None, _IDLE_SHARE * self._seconds).times
        ordered = sorted(small.times) or [float("nan")]
        return Waited(
            scenario,
            caller,
            deadline_ms,
            len(small.times),
            statistics.median(idle),
            statistics.median(ordered),
            ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
            ordered[-1],
            small.scored / (DOCUMENTS * max(1, len(small.times))),
            small.refused,
        )

    def _small(self, caller: str, deadline_ms: float | None, seconds: float) -> _Small:
        small, until = _Small(), time.perf_counter() + seconds
        if caller == EVENT_LOOP:
            asyncio.run(self._small_beside_loop(small, deadline_ms, until))
            return small
        while small.goes_on(until):
            documents = self.documents(DOCUMENTS)
            started = time.perf_counter()
            ranking = self._reranker.rank("how to read a file", documents, deadline_ms=deadline_ms)
            small.answered(ranking, time.perf_counter() - started)
            time.sleep(_PAUSE)
        return small

    async def _small_beside_loop(self, small: _Small, deadline_ms: float | None, until: float) -> None:
        shared = AsyncArtifactReranker(self._reranker)
        while small.goes_on(until):
            documents = self.documents(DOCUMENTS)
            started = time.perf_counter()
            try:
                ranking = await shared.rank("how to read a file", documents, deadline_ms=deadline_ms)
            except Overloaded:
                small.refused += 1
            else:
                small.answered(ranking, time.perf_counter() - started)
            await asyncio.sleep(_PAUSE)


@contextmanager
def _repeated(calls: Sequence[Callable[[], object]], reranker: Reranker) -> Iterator[None]:
    """Make each call again and again, in a thread of its own; closing the reranker ends them."""

    def repeat(call: Callable[[], object]) -> None:
        with suppress(ClosedError):
            while True:
                call()

    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(repeat, call) for call in calls]
        time.sleep(10 * _PAUSE)
        try:
            yield
        finally:
            reranker.close(drain=False)
        for future in futures:
            future.result()


def run(
    scenarios: Sequence[str], callers: Sequence[str], seconds: float, progress: Callable[[Waited], object]
) -> list[Waited]:
    """Measure scenarios, each without and with a deadline of 200 ms on the small calls.

    Args:
        scenarios: of `SCENARIOS`.
        callers: of 'threads' and 'event-loop'.
        seconds: how long small calls are made in each measurement.
        progress: called with each result.
    """
    results = []
    for caller, scenario, deadline_ms in product(callers, scenarios, (None, _DEADLINE_MS)):
        with Reranker(precision="int8", threads=2) as reranker:
            reranker.warmup()
            results.append(Neighbours(reranker, seconds).measure(scenario, caller, deadline_ms))
        progress(results[-1])
    return results


def _row(waited: Waited) -> str:
    deadline = "" if waited.deadline_ms is None else f"{waited.deadline_ms:.0f}"
    ratios = f"{waited.median / waited.idle:.1f} | {waited.worst / waited.idle:.1f}"
    times = f"{waited.idle:.0f} | {waited.median:.0f} | {waited.p99:.0f} | {waited.worst:.0f}"
    rest = f"{waited.calls} | {waited.scored:.0%} | {waited.refused}"
    return f"| {waited.scenario} | {waited.caller} | {deadline} | {times} | {ratios} | {rest} |"


def main() -> None:
    """Print a table as markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--scenario", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS), help="all by default"
    )
    parser.add_argument(
        "--calls-from", nargs="+", choices=[THREADS, EVENT_LOOP], default=[THREADS, EVENT_LOOP], help="both by default"
    )
    parser.add_argument("--seconds", type=float, default=14.0, help="how long small calls are made in each measurement")
    parser.add_argument("--json", type=Path, help="write all figures")
    given = parser.parse_args()
    times = ["deadline ms", "idle ms", "median", "p99", "worst", "median / idle", "worst / idle"]
    heads = ["beside", "calls from", *times, "calls", "scored", "refused"]
    print(f"| {' | '.join(heads)} |\n|---|---|{'---:|' * (len(heads) - 2)}")
    results = run(given.scenario, given.calls_from, given.seconds, lambda waited: print(_row(waited), flush=True))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(waited) for waited in results], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
