"""Requests of several callers to one replica: the engine's queue against `serve.batch`.

    python -m crossrank.benchmarks.ray.serving --model default --rounds 3

Both replicas have one CPU and are asked in turn through handles, by callers that each send a new request when the last
one is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil

from crossrank.benchmarks.ray.texts import workload
from crossrank.integrations.ray.assigned import assigned
from crossrank.integrations.ray.serving import MAX_ONGOING_REQUESTS, deployment
from crossrank.reranker import Reranker
from crossrank.server.settings import ModelSettings, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from crossrank.benchmarks.harness.workloads import Workload

    Request = tuple[str, Sequence[str]]

_SMALL, _LARGE = 10, 300
_TITLES = {"own": "AsyncReranker", "batching": "serve.batch"}


class Measured(NamedTuple):
    """One load on one replica: pairs a second, its CPU ms a pair, ms of the smallest requests."""

    rate: float
    cpu: float
    p50: float
    p95: float


def serve_batch_deployment(model: str, *, max_batch_size: int, wait: float) -> Any:
    """A deployment that batches requests with `serve.batch` and scores each batch in one call.

    Args:
        model: as for `Reranker`.
        max_batch_size: documents of a batch, counted by `batch_size_fn`.
        wait: seconds for which a batch waits to be filled.
    """
    from ray import serve

    class Batching:
        def __init__(self) -> None:
            self._reranker = Reranker(model, provider="cpu", threads=assigned().threads, activation="identity")

        async def _score(self, requests: list[Request]) -> list[npt.NDArray[np.float32]]:
            queries, documents = zip(*requests, strict=True)
            return await asyncio.to_thread(self._reranker.score_many, queries, documents)

        score = serve.batch(
            max_batch_size=max_batch_size,
            batch_wait_timeout_s=wait,
            batch_size_fn=lambda requests: sum(len(documents) for _, documents in requests),
        )(_score)

        async def rank(self, query: str, documents: Sequence[str]) -> list[int]:
            scores = await self.score((query, documents))
            return np.argsort(-scores, kind="stable").tolist()

    return serve.deployment(
        Batching, name="batching", ray_actor_options={"num_cpus": 1}, max_ongoing_requests=MAX_ONGOING_REQUESTS
    ).bind()


def cpu_of_replica(app: str) -> float:
    """CPU seconds so far of the replica of an application."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.cmdline()[:1] and process.cmdline()[0].startswith(f"ray::ServeReplica:{app}"):
                times = process.cpu_times()
                total += times.user + times.system
    return total


async def ask(
    handle: Any, query: str, documents: Sequence[str], sizes: Sequence[int], seconds_of_load: float
) -> tuple[int, float, list[float]]:
    """Callers send requests of their sizes for some seconds: pairs, seconds, and seconds of each smallest request."""
    small = min(sizes)
    seconds: list[float] = []
    pairs = 0
    end = time.perf_counter() + seconds_of_load

    async def caller(number: int, size: int) -> None:
        nonlocal pairs
        turn = number
        while time.perf_counter() < end:
            first = turn * size % max(1, len(documents) - size)
            turn += len(sizes)
            began = time.perf_counter()
            await handle.rank.remote(query, documents[first : first + size])
            pairs += size
            if size == small:
                seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller(number, size) for number, size in enumerate(sizes)))
    return pairs, time.perf_counter() - began, seconds


def main() -> None:
    """Measure and print the table."""
    import ray
    from ray import serve

    parser = argparse.ArgumentParser(description="The engine's queue against serve.batch")
    parser.add_argument("--model", default="default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load in each round")
    options = parser.parse_args()

    pairs = workload(2000)
    ray.init(
        num_cpus=2, include_dashboard=False, object_store_memory=256 << 20, logging_level="error", log_to_driver=False
    )
    serve.start(proxy_location="Disabled")
    settings = ServerSettings(models={"model": ModelSettings(source=options.model)})
    own = deployment().options(num_replicas=1, autoscaling_config=None).bind(settings)
    handles = {"own": serve.run(own, name="own", route_prefix=None)}
    batching = serve_batch_deployment(options.model, max_batch_size=64, wait=0.01)
    handles["batching"] = serve.run(batching, name="batching", route_prefix=None)
    for handle in handles.values():
        handle.rank.remote(pairs.query, pairs.documents[:64]).result()

    asyncio.run(_measure(handles, pairs, options.rounds, options.seconds))
    print(f"\n{options.model}, {options.rounds} rounds, ray {ray.__version__}, load {os.getloadavg()}")


async def _measure(handles: Mapping[str, Any], pairs: Workload, rounds: int, seconds: float) -> None:
    """Print a row for each load and way of batching; in one event loop, which handles keep."""
    loads = {f"{callers} callers, {_SMALL} documents each": [_SMALL] * callers for callers in (1, 2, 4, 8, 16)}
    loads[f"7 callers, {_SMALL} documents each, beside 1 with {_LARGE}"] = [_SMALL] * 7 + [_LARGE]
    print(
        "| load | | pairs/s | CPU ms a pair | 10 documents, p50 ms | p95 ms |\n|---|---|---:|---:|---:|---:|",
        flush=True,
    )
    for load, sizes in loads.items():
        measured: dict[str, list[Measured]] = {name: [] for name in handles}
        for _ in range(rounds):
            for name, handle in handles.items():
                cpu = cpu_of_replica(name)
                count, elapsed, times = await ask(handle, pairs.query, pairs.documents, sizes, seconds)
                cpu = 1e3 * (cpu_of_replica(name) - cpu) / count
                p50, p95 = 1e3 * np.percentile(times, (50, 95))
                measured[name].append(Measured(count / elapsed, cpu, p50, p95))
        for name, runs in measured.items():
            rate, cpu, p50, p95 = (statistics.median(values) for values in zip(*runs, strict=True))
            spread = f"[{min(run.rate for run in runs):.0f}, {max(run.rate for run in runs):.0f}]"
            print(f"| {load} | {_TITLES[name]} | {rate:.0f} {spread} | {cpu:.2f} | {p50:.0f} | {p95:.0f} |", flush=True)


if __name__ == "__main__":
    main()
