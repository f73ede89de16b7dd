"""A process that loads one reranker and runs many callers of it at once: JSON lines in, JSON lines out.

Run as `python load_worker.py`, by the interpreter of the environment that has the reranker. Commands:

    load    {adapter, options}         imports `adapter`, loads the model   -> {seconds}
    texts   {query, documents}         what requests are made of            -> {}
    closed  {callers, seconds, sizes}  callers that send one after another  -> {pairs, requests, seconds, times}
    open    {arrivals, drain}          requests at given moments            -> {outcomes, seconds, cpu_seconds, memory}
    quit    {}

An arrival is `[seconds, first document, number of documents]`; its outcome is `[latency, kind]`, where kind is 'ok',
'shed' (the reranker refused it), 'late' (not done `drain` seconds after the last arrival; the latency is a lower
bound) or an error's name. Latencies count from the moment the request was due, so that the time by which a process
falls behind is included. Every answer has `ok`; if it is false, `error` has the reason.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MEMORY_EVERY = 0.25
_LARGEST_WARM_UP = 100
_RETRY_SECONDS = 0.02
"""How long a caller of the closed loop waits after a request was refused."""


class LoadWorker:
    """The state between commands: an event loop, a loaded reranker, its texts."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._rerank: Callable[[str, list[str]], Awaitable[object]] | None = None
        self._refusals: tuple[type[BaseException], ...] = ()
        self._query = ""
        self._documents: list[str] = []

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command; an error becomes an answer with its reason."""
        commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "load": self._load,
            "texts": self._store_texts,
            "closed": lambda options: self._runner.run(self._closed(options)),
            "open": lambda options: self._runner.run(self._open(options)),
            "quit": lambda _: {},
        }
        try:
            return {"ok": True, **commands[request["command"]](request)}
        except Exception as error:  # any failure of another library is a result of the comparison
            traceback.print_exc(file=sys.stderr)
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        adapter = importlib.import_module(request["adapter"])
        self._rerank, self._refusals = self._runner.run(adapter.load_async(request["options"]))
        return {"seconds": time.perf_counter() - started}

    def _store_texts(self, request: dict[str, Any]) -> dict[str, Any]:
        self._query, self._documents = request["query"], list(request["documents"])
        return {}

    async def _call(self, first: int, count: int) -> None:
        if self._rerank is None:
            raise RuntimeError("nothing is loaded; 'load' comes first")
        documents = [self._documents[(first + index) % len(self._documents)] for index in range(count)]
        await self._rerank(self._query, documents)

    async def _closed(self, request: dict[str, Any]) -> dict[str, Any]:
        """Callers that each send a new request as soon as the last is answered.

        After the time is up none sends another, and the measurement ends with the last answer.
        """
        sizes = itertools.cycle(request["sizes"])
        firsts = itertools.count(step=17)
        await self._call(0, min(_LARGEST_WARM_UP, max(request["sizes"])))
        started = time.perf_counter()
        pairs, times = 0, []

        async def caller() -> None:
            nonlocal pairs
            while time.perf_counter() - started < request["seconds"]:
                count = next(sizes)
                sent = time.perf_counter()
                try:
                    await self._call(next(firsts), count)
                except self._refusals:
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    times.append(time.perf_counter() - sent)
                    pairs += count

        await asyncio.gather(*(caller() for _ in range(request["callers"])))
        return {"pairs": pairs, "requests": len(times), "seconds": time.perf_counter() - started, "times": times}

    async def _open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send each request when it is due, whether or not earlier ones are answered."""
        arrivals = request["arrivals"]
        await self._call(0, 10)
        outcomes: list[list[Any]] = [[0.0, "late"] for _ in arrivals]
        memory: list[list[float]] = []
        cpu, started = time.process_time(), time.perf_counter()

        async def send(index: int, due: float, first: int, count: int) -> None:
            try:
                await self._call(first, count)
                kind = "ok"
            except self._refusals:
                kind = "shed"
            except asyncio.CancelledError:
                kind = "late"
            except Exception as error:  # counted by its name
                kind = type(error).__name__
            outcomes[index] = [time.perf_counter() - started - due, kind]

        async def watch_memory() -> None:
            while True:
                memory.append([time.perf_counter() - started, _resident_mib()])
                await asyncio.sleep(_MEMORY_EVERY)

        watching = asyncio.create_task(watch_memory())
        tasks = []
        for index, (due, first, count) in enumerate(arrivals):
            await asyncio.sleep(max(0.0, due - (time.perf_counter() - started)))
            tasks.append(asyncio.create_task(send(index, due, first, count)))
        cpu_until_last, seconds = time.process_time() - cpu, time.perf_counter() - started
        _, pending = await asyncio.wait(tasks, timeout=request["drain"]) if tasks else (set(), set())
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=10)
        watching.cancel()
        return {"outcomes": outcomes, "seconds": seconds, "cpu_seconds": cpu_until_last, "memory": memory}


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Serve on standard input and output, with everything else that is printed sent to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = LoadWorker()
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(worker.answer(request)) + "\n")
        answers.flush()
        if request.get("command") == "quit":
            break
    answers.flush()
    os._exit(0)  # a peer's threads may never end


if __name__ == "__main__":
    main()
