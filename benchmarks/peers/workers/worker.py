"""A process that loads one reranker and measures calls of it on request: JSON lines in, JSON lines out.

Run as `python worker.py`, by the interpreter of the environment that has the reranker. A request is an object with a
`command`:

    load      {adapter, options}                    loads the model          -> {seconds, versions, scale}
    workload  {name, query, documents}              keeps a query with its documents -> null
    time      {workload, calls}                     calls one after another  -> [seconds, ...]
    score     {workload}                            the scores of a call     -> [score, ...]
    memory    {}                                    resident memory          -> {peak_mib, resident_mib}
    closed    {workload, callers, seconds, sizes}   callers that send one request after another
                                                    -> {pairs, requests, seconds, times}
    open      {workload, arrivals, drain}           requests at given moments
                                                    -> {outcomes, seconds, cpu_seconds, memory}

Requests of the last two take documents of the workload, in turn. An arrival is `[seconds, first document, number of
documents]`; its outcome is `[latency, kind]`, where kind is 'ok', 'shed' (the reranker refused it), 'late' (not done
`drain` seconds after the last arrival; the latency is a lower bound) or an error's name. Latencies count from the
moment the request was due, so that the time by which a process falls behind is included.

An answer has this `value`, or under `error` the reason why there is none. What libraries print goes to standard error.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import inspect
import itertools
import json
import os
import resource
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    Scores = Iterable[float]
    Texts = tuple[str, list[str]]

_MEMORY_EVERY = 0.25
_LARGEST_WARM_UP = 100
_RETRY_SECONDS = 0.02
"""How long a caller of the closed loop waits after a request was refused."""


class Worker:
    """The state between requests: an event loop, a loaded reranker, and the workloads received so far."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._score: Callable[[str, list[str]], Scores | Awaitable[Scores]] | None = None
        self._refusal = ""
        self._pool: ThreadPoolExecutor | None = None
        self._workloads: dict[str, Texts] = {}

    def answer(self, command: str = "", **arguments: Any) -> dict[str, Any]:
        """Carry out a request; an error becomes an answer with its reason."""
        commands: dict[str, Callable[..., object]] = {
            "load": self._load,
            "workload": self._keep,
            "time": self._time,
            "score": self._scores,
            "memory": _memory,
            "closed": lambda **given: self._loop.run_until_complete(self._closed(**given)),
            "open": lambda **given: self._loop.run_until_complete(self._open(**given)),
        }
        if command not in commands:
            return {"error": f"command {command!r}: one of {', '.join(commands)} expected"}
        try:
            return {"value": commands[command](**arguments)}
        except Exception as error:  # any failure of another library is a result of the comparison
            traceback.print_exc(file=sys.stderr)
            return {"error": f"{type(error).__name__}: {error}"}

    def _load(self, adapter: str, options: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        product = importlib.import_module(adapter)
        loaded = product.load(**options)
        self._score = self._loop.run_until_complete(loaded) if inspect.isawaitable(loaded) else loaded
        seconds = time.perf_counter() - started
        self._refusal = getattr(product, "REFUSAL", "")
        # A thread for each core on the CPU; a device runs one call at a time.
        self._pool = ThreadPoolExecutor(1 if options.get("device") == "cuda" else len(os.sched_getaffinity(0)))
        versions = {}
        engines = [name for name in ("onnxruntime", "torch", "transformers") if name in sys.modules]
        for name in (*product.PACKAGES, *engines):
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {"seconds": seconds, "versions": versions, "scale": product.SCALE}

    def _keep(self, name: str, query: str, documents: list[str]) -> None:
        self._workloads[name] = (query, documents)

    def _time(self, workload: str, calls: int) -> list[float]:
        times = []
        for _ in range(calls):
            started = time.perf_counter()
            self._call(workload)
            times.append(time.perf_counter() - started)
        return times

    def _scores(self, workload: str) -> list[float]:
        return [float(score) for score in self._call(workload)]

    def _call(self, workload: str) -> Scores:
        scores = self._loaded()(*self._workloads[workload])
        return self._loop.run_until_complete(_awaited(scores)) if inspect.isawaitable(scores) else scores

    def _loaded(self) -> Callable[[str, list[str]], Scores | Awaitable[Scores]]:
        if self._score is None:
            raise RuntimeError("nothing is loaded; 'load' comes first")
        return self._score

    async def _request(self, texts: Texts, first: int, count: int) -> None:
        """One request beside others: on the event loop, or in a thread if the reranker knows no event loops."""
        query, documents = texts
        chosen = [documents[(first + index) % len(documents)] for index in range(count)]
        score = self._loaded()
        if inspect.iscoroutinefunction(score):
            await score(query, chosen)
        else:
            await asyncio.get_running_loop().run_in_executor(self._pool, score, query, chosen)

    def _is_refusal(self, error: Exception) -> bool:
        return type(error).__name__ == self._refusal

    async def _closed(self, workload: str, callers: int, seconds: float, sizes: list[int]) -> dict[str, Any]:
        """Callers that each send a new request as soon as the last is answered.

        After the time is up none sends another, and the measurement ends with the last answer.
        """
        texts = self._workloads[workload]
        counts, firsts = itertools.cycle(sizes), itertools.count(step=17)
        await self._request(texts, 0, min(_LARGEST_WARM_UP, max(sizes)))
        started = time.perf_counter()
        pairs, times = 0, []

        async def caller() -> None:
            nonlocal pairs
            while time.perf_counter() - started < seconds:
                count = next(counts)
                sent = time.perf_counter()
                try:
                    await self._request(texts, next(firsts), count)
                except Exception as error:
                    if not self._is_refusal(error):
                        raise
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    times.append(time.perf_counter() - sent)
                    pairs += count

        await asyncio.gather(*(caller() for _ in range(callers)))
        return {"pairs": pairs, "requests": len(times), "seconds": time.perf_counter() - started, "times": times}

    async def _open(self, workload: str, arrivals: list[tuple[float, int, int]], drain: float) -> dict[str, Any]:
        """Send each request when it is due, whether or not earlier ones are answered."""
        texts = self._workloads[workload]
        await self._request(texts, 0, 10)
        outcomes: list[tuple[float, str]] = [(0.0, "late") for _ in arrivals]
        memory: list[tuple[float, float]] = []
        cpu, started = time.process_time(), time.perf_counter()

        async def send(index: int, due: float, first: int, count: int) -> None:
            try:
                await self._request(texts, first, count)
                kind = "ok"
            except asyncio.CancelledError:
                kind = "late"
            except Exception as error:  # counted by its name
                kind = "shed" if self._is_refusal(error) else type(error).__name__
            outcomes[index] = (time.perf_counter() - started - due, kind)

        async def watch_memory() -> None:
            while True:
                memory.append((time.perf_counter() - started, _status_mib("VmRSS")))
                await asyncio.sleep(_MEMORY_EVERY)

        watching = asyncio.create_task(watch_memory())
        tasks = []
        for index, (due, first, count) in enumerate(arrivals):
            await asyncio.sleep(max(0.0, due - (time.perf_counter() - started)))
            tasks.append(asyncio.create_task(send(index, due, first, count)))
        cpu_until_last, seconds = time.process_time() - cpu, time.perf_counter() - started
        _, pending = await asyncio.wait(tasks, timeout=drain) if tasks else (set(), set())
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=10)
        watching.cancel()
        return {"outcomes": outcomes, "seconds": seconds, "cpu_seconds": cpu_until_last, "memory": memory}


async def _awaited(scores: Awaitable[Scores]) -> Scores:
    return await scores


def _memory() -> dict[str, Any]:
    return {"peak_mib": _status_mib("VmHWM"), "resident_mib": _status_mib("VmRSS")}


def _status_mib(field: str) -> float:
    # /proc is preferred to ru_maxrss, which a child inherits from its parent.
    try:
        with Path("/proc/self/status").open(encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Serve on standard input and output, with everything else that is printed sent to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = Worker()
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(**json.loads(line))) + "\n")
        answers.flush()
    os._exit(0)  # a peer's threads may never end


if __name__ == "__main__":
    main()
