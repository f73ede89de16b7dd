"""A process that loads one reranker and times calls of it on request: JSON lines in, JSON lines out.

Run as `python worker.py`, by the interpreter of the environment that has the reranker. A request is an object with a
`command`:

    load      {adapter, options}         imports `adapter` and loads the model  -> {seconds, versions, scale}
    workload  {name, query, documents}   stores a query with its documents      -> {}
    warm_up   {workload, calls}          calls without reporting times          -> {}
    time      {workload, calls}          calls one after the other              -> {seconds: [...]}
    score     {workload}                 the scores of a call                   -> {scores: [...]}
    memory    {}                         resident memory: peak so far, and now  -> {peak_mib, resident_mib}
    quit      {}

Every answer has `ok`; if it is false, `error` has the reason. What libraries print goes to standard error.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Scorer = Callable[[str, list[str]], Iterable[float]]


class Worker:
    """The state between requests: a loaded reranker and the workloads received so far."""

    def __init__(self) -> None:
        self._score: Scorer | None = None
        self._workloads: dict[str, tuple[str, list[str]]] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request; an error becomes an answer with its reason."""
        commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "load": self._load,
            "workload": self._store_workload,
            "warm_up": self._warm_up,
            "time": self._time,
            "score": self._scores,
            "memory": _memory,
            "quit": lambda _: {},
        }
        command = commands.get(request.get("command", ""))
        if command is None:
            return {"ok": False, "error": f"command {request.get('command')!r}: one of {', '.join(commands)} expected"}
        try:
            return {"ok": True, **command(request)}
        except Exception as error:  # any failure of another library is a result of the comparison
            traceback.print_exc(file=sys.stderr)
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        adapter = importlib.import_module(request["adapter"])
        self._score = adapter.load(request["options"])
        seconds = time.perf_counter() - started
        versions = {}
        engines = [name for name in ("onnxruntime", "torch", "transformers") if name in sys.modules]
        for name in (*adapter.PACKAGES, *engines):
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {"seconds": seconds, "versions": versions, "scale": adapter.SCALE}

    def _store_workload(self, request: dict[str, Any]) -> dict[str, Any]:
        self._workloads[request["name"]] = (request["query"], list(request["documents"]))
        return {}

    def _warm_up(self, request: dict[str, Any]) -> dict[str, Any]:
        self._times(request)
        return {}

    def _time(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"seconds": self._times(request)}

    def _times(self, request: dict[str, Any]) -> list[float]:
        query, documents = self._workloads[request["workload"]]
        times = []
        for _ in range(request.get("calls", 1)):
            started = time.perf_counter()
            self._call(query, documents)
            times.append(time.perf_counter() - started)
        return times

    def _scores(self, request: dict[str, Any]) -> dict[str, Any]:
        query, documents = self._workloads[request["workload"]]
        return {"scores": [float(score) for score in self._call(query, documents)]}

    def _call(self, query: str, documents: list[str]) -> Iterable[float]:
        if self._score is None:
            raise RuntimeError("nothing is loaded; 'load' comes first")
        return self._score(query, documents)


def _memory(_: dict[str, Any]) -> dict[str, Any]:
    return {"peak_mib": _kib("VmHWM") / 1024, "resident_mib": _kib("VmRSS") / 1024}


def _kib(field: str) -> int:
    # /proc is preferred to ru_maxrss, which a child inherits from its parent.
    try:
        with Path("/proc/self/status").open(encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until `quit` or the end of input."""
    worker = Worker()
    for line in requests:
        request = json.loads(line)
        answers.write(json.dumps(worker.answer(request)) + "\n")
        answers.flush()
        if request.get("command") == "quit":
            break


def main() -> None:
    """Serve on standard input and output, with everything else that is printed sent to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
