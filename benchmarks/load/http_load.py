"""HTTP services under open-loop load, and what crossrank's own service costs beside the engine.

    python -m crossrank.benchmarks.load.http_load load --json FILE crossrank
    python -m crossrank.benchmarks.load.http_load load --json FILE infinity --python ENV/bin/python --checkpoint FOLDER
    python -m crossrank.benchmarks.load.http_load in-process
    python -m crossrank.benchmarks.load.http_load overhead
    python -m crossrank.benchmarks.load.http_load report --json FILE --plots FOLDER

Everything goes over the loopback interface; the client shares the cores with the service.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.async_reranker import AsyncReranker
from crossrank.benchmarks.harness.environment import describe_run
from crossrank.benchmarks.harness.json_text import json_of, value_of
from crossrank.benchmarks.harness.passages import standard_library_passages
from crossrank.benchmarks.harness.sampling import latency, percentiles
from crossrank.benchmarks.harness.workloads import WorkloadMaker
from crossrank.benchmarks.load.arrivals import SIZES, Phase, mean_size, poisson_arrivals
from crossrank.benchmarks.load.http_client import HttpClient
from crossrank.benchmarks.load.http_figures import HttpFigures, HttpPoint, ServiceLoad
from crossrank.errors import CrossrankError, Overloaded
from crossrank.evaluation.report_table import tables_to_markdown
from crossrank.models.artifact import Artifact
from crossrank.models.embedded import embedded_artifact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import psutil

    from crossrank.benchmarks.harness.sampling import Latency
    from crossrank.benchmarks.harness.workloads import Workload

_CALLERS = 8
_DOCUMENTS = 400
_DRAIN = 10.0
_START_SECONDS = 120.0
_OVERHEAD_CALLS = 2000
_REFUSED = frozenset({429, 503})
_RETRY = 0.2


class ServiceError(CrossrankError):
    """A service that is to be measured did not start or answered with an error."""


def command_of(name: str, port: int, python: str, checkpoint: str | None) -> tuple[list[str], str, str]:
    """How a service is started, the path that says it is ready, and the path that scores."""
    if name == "crossrank":
        program = [sys.executable, "-c", "from crossrank.cli import main; main()", "serve", "--port", str(port)]
        return program, "/ready", "/v2/rerank"
    if name == "infinity":
        program = [str(Path(python).parent / "infinity_emb"), "v2", "--model-id", str(checkpoint), "--engine", "torch"]
        program += ["--device", "cpu", "--port", str(port), "--served-model-name", "default", "--no-model-warmup"]
        return [*program, "--log-level", "error"], "/health", "/rerank"
    return (
        [python, str(Path(__file__).with_name("fastapi_service.py")), str(checkpoint), str(port)],
        "/health",
        "/rerank",
    )


@contextmanager
def started(command: list[str], port: int, ready: str) -> Iterator[psutil.Process]:
    """A running service; ended at the end of the block."""
    import psutil

    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + _START_SECONDS
        while not _answers(port, ready):
            if process.poll() is not None or time.monotonic() > end:
                raise ServiceError(f"{command[:3]} did not get ready (exit status {process.poll()})")
            time.sleep(0.02)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def workload() -> Workload:
    """Short documents, so that many requests fit into a short measurement."""
    artifact = Artifact.open(embedded_artifact())
    tokenizer = artifact.path(artifact.manifest.tokenizer)
    maker = WorkloadMaker(standard_library_passages(), tokenizer, max_length=artifact.manifest.max_length)
    return maker.of_length("short", _DOCUMENTS)


def request_body(texts: Workload, first: int, count: int) -> dict[str, Any]:
    """A request for so many documents from one on."""
    documents = [texts.documents[(first + place) % len(texts.documents)] for place in range(count)]
    return {"model": "default", "query": texts.query, "documents": documents}


async def closed_loop(
    call: Callable[[dict[str, Any]], Awaitable[object]], texts: Workload, seconds: float, callers: int = _CALLERS
) -> float:
    """Pairs a second that callers get scored who each wait for their answer before they ask again."""
    done, start = 0, time.perf_counter()

    async def caller(seed: int) -> None:
        nonlocal done
        random = np.random.default_rng(seed)
        while time.perf_counter() - start < seconds:
            count = int(random.choice(SIZES))
            await call(request_body(texts, int(random.integers(_DOCUMENTS)), count))
            done += count

    await asyncio.gather(*(caller(seed) for seed in range(callers)))
    return done / (time.perf_counter() - start)


async def until_answered(name: str, client: HttpClient, body: dict[str, Any]) -> None:
    """Post until the service takes the request: one that refuses at first, because it waits for long, is not broken."""
    while True:
        status, answer = await client.post(client.request(body))
        if status == 200:
            return
        if status not in _REFUSED:
            raise ServiceError(f"{name} answered {status}: {answer[:200]!r}")
        await asyncio.sleep(_RETRY)


async def open_loop(
    client: HttpClient, texts: Workload, process: psutil.Process, *, load: float, saturated: float, seconds: float
) -> HttpPoint:
    """Requests that come whether or not earlier ones were answered; latencies count from when each was due.

    Args:
        client: of the service.
        texts: that requests are made of.
        process: of the service, whose memory is watched.
        load: to offer, as a share of `saturated`.
        saturated: pairs a second of waiting callers.
        seconds: how long requests come.
    """
    phase = Phase("load", load * saturated / mean_size(), seconds)
    arrivals = poisson_arrivals([phase], documents=_DOCUMENTS, seed=round(100 * load))
    requests = [client.request(request_body(texts, arrival.first, arrival.count)) for arrival in arrivals]
    latencies: list[float] = []
    kinds: Counter[str] = Counter()
    pairs = 0
    memory: list[float] = []
    watching = asyncio.create_task(_watch(process, memory))
    start = time.perf_counter()

    async def one(due: float, request: bytes, count: int) -> None:
        nonlocal pairs
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        try:
            status, _ = await client.post(request)
        except (ConnectionError, asyncio.IncompleteReadError):
            kinds["connection"] += 1
            return
        kinds["ok" if status == 200 else "shed" if status in _REFUSED else str(status)] += 1
        if status == 200:
            latencies.append(time.perf_counter() - start - due)
            pairs += count

    tasks = [
        asyncio.create_task(one(arrival.due, request, arrival.count))
        for arrival, request in zip(arrivals, requests, strict=True)
    ]
    _, late = await asyncio.wait(tasks, timeout=seconds + _DRAIN)
    took = time.perf_counter() - start
    latencies += [took - arrival.due for arrival, task in zip(arrivals, tasks, strict=True) if task in late]
    for task in late:
        task.cancel()
    watching.cancel()
    await asyncio.gather(*late, watching, return_exceptions=True)
    kinds["late"] = len(late)
    return HttpPoint(
        load=load,
        requests=len(arrivals),
        offered_pairs_per_second=sum(arrival.count for arrival in arrivals) / seconds,
        done_pairs_per_second=pairs / took,
        latency=percentiles(latencies),
        kinds=dict(kinds),
        memory_mb=(min(memory), max(memory)),
    )


async def measure(name: str, port: int, path: str, process: psutil.Process, seconds: float) -> ServiceLoad:
    """Saturation by waiting callers, then half, all of, and twice the rate of requests that saturates."""
    conditions = describe_run()
    texts, client = workload(), HttpClient(port, path)

    call = partial(until_answered, name, client)
    await closed_loop(call, texts, 3.0)
    saturated = await closed_loop(call, texts, seconds)
    points = [
        await open_loop(client, texts, process, load=load, saturated=saturated, seconds=seconds)
        for load in (0.5, 1.0, 2.0)
    ]
    await client.close()
    return ServiceLoad(conditions, saturated, tuple(points))


async def _watch(process: psutil.Process, memory: list[float]) -> None:
    while True:
        everything = [process, *process.children(recursive=True)]
        memory.append(sum(one.memory_info().rss for one in everything) / 1e6)
        await asyncio.sleep(0.5)


async def against_in_process(seconds: float, turns: int) -> list[tuple[float, float]]:
    """Pairs a second of the engine in this process and through the service, in turn, each alone on the machine."""
    texts, port, results = workload(), free_port(), []
    command, ready, path = command_of("crossrank", port, "", None)
    for _ in range(turns):
        async with AsyncReranker(activation="identity") as reranker:

            async def direct(body: dict[str, Any], reranker: AsyncReranker = reranker) -> None:
                while True:
                    try:
                        await reranker.rank(body["query"], body["documents"], return_documents=False)
                    except Overloaded:
                        await asyncio.sleep(_RETRY)
                    else:
                        return

            await closed_loop(direct, texts, 2.0)
            alone = await closed_loop(direct, texts, seconds)
        with started(command, port, ready):
            client = HttpClient(port, path)

            over_http = partial(until_answered, "crossrank", client)
            await closed_loop(over_http, texts, 2.0)
            results.append((alone, await closed_loop(over_http, texts, seconds)))
            await client.close()
    return results


async def overhead() -> Latency:
    """Seconds of a call with 10 documents to an engine that does nothing, over one kept connection."""
    port, texts = free_port(), workload()
    with started([sys.executable, "-m", "crossrank.benchmarks.load.stub_service", str(port)], port, "/ready"):
        client = HttpClient(port, "/v2/rerank")
        request, taken = client.request(request_body(texts, 0, 10)), []
        for _ in range(_OVERHEAD_CALLS):
            start = time.perf_counter()
            await client.post(request)
            taken.append(time.perf_counter() - start)
        await client.close()
    return latency(taken)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("load", "in-process", "overhead", "start", "report"))
    parser.add_argument("name", nargs="?", choices=("crossrank", "infinity", "fastapi"), default="crossrank")
    parser.add_argument("--python", default=sys.executable, help="of the peer's environment")
    parser.add_argument("--checkpoint", help="the peer's weights")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--turns", type=int, default=3, help="of the engine in process and over HTTP")
    parser.add_argument("--json", type=Path, default=Path("http-load.json"), help="one file for all services")
    parser.add_argument("--plots", type=Path, help="folder for the plot")
    chosen = parser.parse_args()
    if chosen.what == "overhead":
        taken = asyncio.run(overhead())
        print(", ".join(f"{name} {getattr(taken, name) * 1000:.2f} ms" for name in ("p50", "p90", "p99")))
    elif chosen.what == "in-process":
        turns = asyncio.run(against_in_process(chosen.seconds / 2, chosen.turns))
        for alone, http in turns:
            print(f"{alone:.1f} pairs/s in process, {http:.1f} over HTTP: {http / alone:.1%}")
        print(f"median {median(http / alone for alone, http in turns):.1%}")
    elif chosen.what == "start":
        for _ in range(3):
            port, began = free_port(), time.perf_counter()
            command, ready, _ = command_of("crossrank", port, "", None)
            with started(command, port, ready) as process:
                print(f"ready after {time.perf_counter() - began:.2f} s, {process.memory_info().rss / 1e6:.0f} MB")
    else:
        figures = HttpFigures({})
        if chosen.json.exists():
            figures = value_of(HttpFigures, chosen.json.read_text(encoding="utf-8"))
        if chosen.what == "load":
            port = free_port()
            command, ready, path = command_of(chosen.name, port, chosen.python, chosen.checkpoint)
            with started(command, port, ready) as process:
                measured = asyncio.run(measure(chosen.name, port, path, process, chosen.seconds))
            figures = HttpFigures(figures.services | {chosen.name: measured})
            chosen.json.write_text(json_of(figures, indent=2) + "\n", encoding="utf-8")
        print(tables_to_markdown(figures.tables()))
        if chosen.plots is not None:
            print(*figures.write_plots(chosen.plots))


if __name__ == "__main__":
    main()
