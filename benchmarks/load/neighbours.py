"""What a small call waits for large ones: `python -m crossrank.benchmarks.load.neighbours`.

Ten documents are ranked again and again, first on an idle engine, then while other callers rank a thousand documents
each, or send a document of 2 MB. The idle time is measured before and after each scenario, because a machine with
other work changes; what counts is the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.benchmarks.harness.passages import standard_library_passages
from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.errors import Overloaded
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DOCUMENTS, THOUSAND = 10, 1000
_WORDS_OF_A_DOCUMENT = 60
_MEGABYTES = 2_000_000
_PAUSE = 0.05
_DEADLINE_MS = 200.0


@dataclass(frozen=True)
class Waited:
    """Times of small calls in milliseconds, and how many were refused.

    Attributes:
        scenario: beside what.
        caller: 'threads' or 'event loop'.
        idle: median on the idle engine, before and after.
        median: of the calls.
        p99: of the calls.
        worst: of the calls.
        refused: calls that were refused as `Overloaded`.
    """

    scenario: str
    caller: str
    idle: float
    median: float
    p99: float
    worst: float
    refused: int


class Neighbours:
    """Small calls on one reranker, beside large ones from threads."""

    def __init__(self, reranker: Reranker, calls: int) -> None:
        """Prepare the texts.

        Args:
            reranker: shared by all callers.
            calls: small calls of a scenario.
        """
        self._reranker = reranker
        self._calls = calls
        self._random = random.Random(5)  # noqa: S311
        self._words = " ".join(standard_library_passages().texts).split()

    def documents(self, count: int) -> list[str]:
        """Documents of which no two are equal."""
        return [" ".join(self._random.choices(self._words, k=_WORDS_OF_A_DOCUMENT)) for _ in range(count)]

    def measure(
        self,
        scenario: str,
        large: Sequence[Callable[[], object]],
        *,
        beside_loop: bool,
        deadline_ms: float | None = None,
    ) -> Waited:
        """Time small calls while each of the large ones is made again and again."""
        caller = "event loop" if beside_loop else "threads"
        before, _ = self._small(beside_loop=beside_loop, deadline_ms=None)
        with _repeated(large):
            times, refused = self._small(beside_loop=beside_loop, deadline_ms=deadline_ms)
        after, _ = self._small(beside_loop=beside_loop, deadline_ms=None)
        ordered = sorted(times) or [float("nan")]
        p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        idle = statistics.median(before + after)
        return Waited(scenario, caller, idle, statistics.median(ordered), p99, ordered[-1], refused)

    def _small(self, *, beside_loop: bool, deadline_ms: float | None) -> tuple[list[float], int]:
        lists = [self.documents(DOCUMENTS) for _ in range(self._calls)]
        if beside_loop:
            return asyncio.run(self._small_beside_loop(lists, deadline_ms))
        times: list[float] = []
        for documents in lists:
            started = time.perf_counter()
            self._reranker.rank("how to read a file", documents, deadline_ms=deadline_ms)
            times.append((time.perf_counter() - started) * 1000)
            time.sleep(_PAUSE)
        return times, 0

    async def _small_beside_loop(
        self, lists: Sequence[Sequence[str]], deadline_ms: float | None
    ) -> tuple[list[float], int]:
        shared, times, refused = AsyncArtifactReranker(self._reranker), [], 0
        for documents in lists:
            started = time.perf_counter()
            try:
                await shared.rank("how to read a file", documents, deadline_ms=deadline_ms)
            except Overloaded:
                refused += 1
            else:
                times.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(_PAUSE)
        return times, refused


@contextmanager
def _repeated(calls: Sequence[Callable[[], object]]) -> Iterator[None]:
    """Make each call again and again, in a thread of its own."""
    over = threading.Event()

    def repeat(call: Callable[[], object]) -> None:
        while not over.is_set():
            call()

    with ThreadPoolExecutor(max(1, len(calls))) as pool:
        futures = [pool.submit(repeat, call) for call in calls]
        time.sleep(10 * _PAUSE)
        try:
            yield
        finally:
            over.set()
        for future in futures:
            future.result()


def run(reranker: Reranker, calls: int, progress: Callable[[Waited], object]) -> list[Waited]:
    """Measure all scenarios.

    Args:
        reranker: on the CPU.
        calls: small calls of each scenario.
        progress: called with each result.
    """
    bench, results = Neighbours(reranker, calls), []

    def thousand(deadline_ms: float | None = None) -> Callable[[], object]:
        documents = bench.documents(THOUSAND)
        return lambda: reranker.rank("how to write a file", documents, deadline_ms=deadline_ms)

    def megabytes() -> Callable[[], object]:
        words = " ".join(bench.documents(100))
        document = words * (_MEGABYTES // len(words) + 1)
        return lambda: reranker.rank("how to write a file", [document[:_MEGABYTES]])

    reranker.warmup()
    for beside_loop in (False, True):
        for scenario, large in (
            *((f"{count} x {THOUSAND} documents", [thousand() for _ in range(count)]) for count in (1, 3, 10)),
            ("4 x a document of 2 MB", [megabytes() for _ in range(4)]),
        ):
            for deadline_ms in (None, _DEADLINE_MS):
                name = scenario if deadline_ms is None else f"{scenario}, deadline_ms={deadline_ms:.0f}"
                results.append(bench.measure(name, large, beside_loop=beside_loop, deadline_ms=deadline_ms))
                progress(results[-1])
    return results


def _row(waited: Waited) -> str:
    ratios = f"{waited.median / waited.idle:.1f} | {waited.worst / waited.idle:.1f}"
    times = f"{waited.idle:.0f} | {waited.median:.0f} | {waited.p99:.0f} | {waited.worst:.0f}"
    return f"| {waited.scenario} | {waited.caller} | {times} | {ratios} | {waited.refused} |"


def main() -> None:
    """Print a table as markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=40, help="small calls of each scenario")
    parser.add_argument("--json", type=Path, help="write all figures")
    given = parser.parse_args()
    heads = ("beside", "calls from", "idle ms", "median", "p99", "worst", "median / idle", "worst / idle", "refused")
    print(f"| {' | '.join(heads)} |\n|---|---|{'---:|' * (len(heads) - 2)}")
    with Reranker(precision="int8", threads=2) as reranker:
        results = run(reranker, given.calls, lambda waited: print(_row(waited), flush=True))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(waited) for waited in results], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
