"""Requests of several callers to one replica's engine: its own queue against `serve.batch`.

    python -m crossrank.benchmarks.ray.serving --model default --rounds 3

Both are asked in turn by callers within one replica, so that only the batching differs: proxies and handles cost
the same for both. Each has one thread for scoring. Callers send a new request when the last one is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossrank.async_reranker import AsyncReranker
from crossrank.benchmarks.ray.texts import workload
from crossrank.errors import Overloaded
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import numpy.typing as npt

    from crossrank.benchmarks.harness.workloads import Workload

    Ask = Callable[[str, Sequence[str]], Awaitable[object]]

_SMALL, _LARGE = 10, 300


class Measured(NamedTuple):
    """One load: pairs a second, CPU ms of this process a pair, ms of the smallest requests."""

    rate: float
    cpu: float
    p50: float
    p95: float


def with_serve_batch(reranker: Reranker, *, size_of: Callable[[Sequence[str]], int], most: int) -> Ask:
    """A function that ranks, batching requests with `serve.batch` and scoring each batch in one call.

    Args:
        reranker: scores a batch, in a thread.
        size_of: what a request counts; one that alone counts more than `most` is an error of `serve.batch`.
        most: what the requests of a batch count together.
    """
    from ray import serve

    async def score(requests: list[tuple[str, Sequence[str]]]) -> list[npt.NDArray[np.float32]]:
        queries, documents = zip(*requests, strict=True)
        return await asyncio.to_thread(reranker.score_many, queries, documents)

    batched: Any = serve.batch(
        max_batch_size=most,
        batch_wait_timeout_s=0.01,
        batch_size_fn=lambda requests: sum(size_of(documents) for _, documents in requests),
    )(score)

    async def ask(query: str, documents: Sequence[str]) -> list[int]:
        order: list[int] = np.argsort(-await batched((query, documents)), kind="stable").tolist()
        return order

    return ask


async def offer(ask: Ask, pairs: Workload, sizes: Sequence[int], seconds: float) -> Measured:
    """A caller for each size sends requests for some seconds."""
    times: list[float] = []
    count = 0
    began, cpu = time.perf_counter(), time.process_time()

    async def caller(number: int, size: int) -> None:
        nonlocal count
        turn = number
        while time.perf_counter() < began + seconds:
            first = turn * size % (len(pairs.documents) - size)
            turn += len(sizes)
            sent = time.perf_counter()
            try:
                await ask(pairs.query, pairs.documents[first : first + size])
            except Overloaded as refused:
                await asyncio.sleep(refused.retry_after)
                continue
            count += size
            if size == min(sizes):
                times.append(time.perf_counter() - sent)

    await asyncio.gather(*(caller(number, size) for number, size in enumerate(sizes)))
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    p50, p95 = 1e3 * np.percentile(times, (50, 95))
    return Measured(count / elapsed, 1e3 * cpu / count, p50, p95)


async def measure(model: str, rounds: int, seconds: float) -> str:
    """A table with a row for each load and way of batching; `serve.batch` works in a replica only."""
    pairs = workload(2000)
    own = AsyncReranker(model, provider="cpu", threads=1, activation="identity")
    single = Reranker(model, provider="cpu", threads=1, activation="identity")
    ways: dict[str, Ask] = {
        "AsyncReranker": own.rank,
        "serve.batch of 8 requests": with_serve_batch(single, size_of=lambda _: 1, most=8),
        "serve.batch of 320 documents": with_serve_batch(single, size_of=len, most=320),
    }
    loads = {f"{callers} x {_SMALL} documents": [_SMALL] * callers for callers in (1, 4, 16)}
    loads[f"7 x {_SMALL} documents beside 1 x {_LARGE}"] = [_SMALL] * 7 + [_LARGE]
    titles = ("", "pairs/s", "CPU ms a pair", f"{_SMALL} documents, p50 ms", "p95 ms")
    lines = ["| callers | " + " | ".join(titles) + " |", "|---|---" + "|---:" * (len(titles) - 1) + "|"]
    for ask in ways.values():
        await ask(pairs.query, pairs.documents[:64])
    for load, sizes in loads.items():
        measured: dict[str, list[Measured]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, ask in ways.items():
                measured[name].append(await offer(ask, pairs, sizes, seconds))
        for name, runs in measured.items():
            rate, cpu, p50, p95 = (statistics.median(values) for values in zip(*runs, strict=True))
            spread = f"[{min(run.rate for run in runs):.0f}, {max(run.rate for run in runs):.0f}]"
            lines.append(f"| {load} | {name} | {rate:.0f} {spread} | {cpu:.2f} | {p50:.0f} | {p95:.0f} |")
    await own.aclose()
    single.close()
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    import ray
    from ray import serve

    parser = argparse.ArgumentParser(description="The engine's queue against serve.batch")
    parser.add_argument("--model", default="default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load in each round")
    options = parser.parse_args()

    class Measuring:
        async def measure(self) -> str:
            return await measure(options.model, options.rounds, options.seconds)

    # Ray starts its workers with low priority, which on a busy machine would be measured instead.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=256 << 20, log_to_driver=False)
    serve.start(proxy_location="Disabled")
    replica = serve.deployment(Measuring, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=1000).bind()
    print(serve.run(replica, route_prefix=None).measure.remote().result())
    print(f"\n{options.model}, {options.rounds} rounds, ray {ray.__version__}, load {os.getloadavg()}")


if __name__ == "__main__":
    main()
