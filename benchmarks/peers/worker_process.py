"""Our side of a worker process: starts it, sends requests, and reports why it failed."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from crossrank.benchmarks.harness.json_text import checked, json_of, value_of
from crossrank.errors import CrossrankError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crossrank.benchmarks.harness.workloads import Workload
    from crossrank.benchmarks.load.arrivals import Arrival

WORKERS = Path(__file__).parent / "workers"
_ERROR_LINES = 3

Scale = Literal["logit", "probability"]
Value = TypeVar("Value")


class WorkerError(CrossrankError):
    """A worker process could not carry out a request; the message has its reason."""


def worker_variables(*, own_environment: bool) -> dict[str, str]:
    """Environment variables of a worker: it fetches nothing, sends no telemetry, and sees none of our packages.

    Args:
        own_environment: whether it runs in the environment of this process and needs our packages.
    """
    variables = dict(os.environ)
    if not own_environment:
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            variables.pop(name, None)
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    no_telemetry = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    return {**variables, **offline, **no_telemetry}


@dataclass(frozen=True)
class Loaded:
    """What a contender reported on loading: seconds, versions of its packages, and the scale of its scores."""

    seconds: float
    versions: dict[str, str]
    scale: Scale


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process, in MiB: the peak so far, and now."""

    peak_mib: float
    resident_mib: float


@dataclass(frozen=True)
class ClosedLoop:
    """Callers that each sent a new request as soon as the last was answered: pairs, and seconds of each request."""

    pairs: int
    requests: int
    seconds: float
    times: tuple[float, ...]

    @property
    def pairs_per_second(self) -> float:
        """Of all callers together."""
        return self.pairs / self.seconds


@dataclass(frozen=True)
class OpenLoop:
    """Requests that were sent when they were due.

    Attributes:
        outcomes: (seconds since it was due, kind) of each request: 'ok', 'shed', 'late' or an error's name.
        seconds: until the last was sent.
        cpu_seconds: that the process used in them.
        memory: (seconds since the start, MiB).
    """

    outcomes: tuple[tuple[float, str], ...]
    seconds: float
    cpu_seconds: float
    memory: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Answer:
    value: Any = None
    error: str | None = None


class WorkerProcess:
    """A running `workers/worker.py`, until it is closed."""

    def __init__(self, python: Path | None = None, *, adapters: Path | None = None) -> None:
        """Start a process.

        Args:
            python: interpreter to run it with; None takes our own.
            adapters: a folder with further adapters.

        Raises:
            WorkerError: the interpreter cannot be started.
        """
        # The file is open as long as the process runs, so close() closes it and not a with statement.
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        variables = worker_variables(own_environment=python is None)
        if adapters is not None:
            variables["PYTHONPATH"] = str(adapters)
        try:
            self._process = subprocess.Popen(
                [str(python or sys.executable), str(WORKERS / "worker.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=variables,
            )
        except OSError as error:
            self._errors.close()
            raise WorkerError(f"cannot start {python}: {error}") from error

    def load(self, adapter: str, options: Mapping[str, str | bool]) -> Loaded:
        """Load a reranker through an adapter of `workers/`."""
        return self._ask(Loaded, command="load", adapter=adapter, options=dict(options))

    def send_workload(self, workload: Workload) -> None:
        """Send a workload; later requests name it."""
        texts = {"query": workload.query, "documents": workload.documents}
        self._ask(type(None), 60.0, command="workload", name=workload.name, **texts)

    def time(self, workload: str, *, calls: int = 1, timeout: float = 600.0) -> list[float]:
        """Make calls one after the other; returns the seconds of each."""
        return self._ask(list[float], timeout, command="time", workload=workload, calls=calls)

    def scores(self, workload: str) -> list[float]:
        """Scores of a workload's documents, in their order."""
        return self._ask(list[float], command="score", workload=workload)

    def memory(self) -> Memory:
        """Memory of the process."""
        return self._ask(Memory, 60.0, command="memory")

    def closed_loop(self, workload: str, *, callers: int, seconds: float, sizes: Sequence[int]) -> ClosedLoop:
        """Run callers that each send a new request as soon as the last is answered.

        Args:
            workload: whose documents they take in turn.
            callers: how many.
            seconds: how long they go on.
            sizes: numbers of documents of their requests, in turn.
        """
        plan = {"callers": callers, "seconds": seconds, "sizes": list(sizes)}
        return self._ask(ClosedLoop, 600.0 + 10 * seconds, command="closed", workload=workload, **plan)

    def open_loop(self, workload: str, arrivals: Sequence[Arrival], *, drain: float) -> OpenLoop:
        """Send each request when it is due, whether or not earlier ones are answered.

        Args:
            workload: whose documents they take.
            arrivals: the requests.
            drain: seconds to wait after the last arrival for requests that are not answered.
        """
        plan = {"arrivals": [(arrival.due, arrival.first, arrival.count) for arrival in arrivals], "drain": drain}
        longest = (arrivals[-1].due if arrivals else 0.0) + drain
        return self._ask(OpenLoop, 600.0 + 10 * longest, command="open", workload=workload, **plan)

    def close(self) -> None:
        """End the process; kill it if it does not end within 10 seconds."""
        if self._process.poll() is None:
            try:
                self._process.stdin.close()  # type: ignore[union-attr]  # its loop ends with its input
                self._process.wait(10)
            except (OSError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]
        self._errors.close()

    def _ask(self, kind: type[Value], timeout: float = 600.0, **request: object) -> Value:
        """Send a request and wait for the answer.

        Raises:
            WorkerError: the process reported an error, ended, or did not answer in time (then it is killed).
        """
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        try:
            requests.write(json_of(request) + "\n")
            requests.flush()
        except (OSError, ValueError) as error:
            raise WorkerError(self._why_it_ended()) from error
        # The worker writes one line for each request, so the buffer holds nothing of an earlier answer.
        if not select.select([answers], [], [], timeout)[0]:
            self._process.kill()
            raise WorkerError(f"no answer to {request['command']!r} within {timeout:.0f} s")
        line = answers.readline()
        if not line:
            raise WorkerError(self._why_it_ended())
        answer = value_of(_Answer, line)
        if answer.error is not None:
            raise WorkerError(answer.error)
        return checked(kind, answer.value)

    def _why_it_ended(self) -> str:
        """The exit status and the last lines that the process printed."""
        try:
            status: int | str = self._process.wait(10)
        except subprocess.TimeoutExpired:
            status = "unknown"
        self._errors.seek(0)
        last_lines = " / ".join(line.strip() for line in self._errors.read().strip().splitlines()[-_ERROR_LINES:])
        return f"the process ended with exit status {status}: {last_lines or 'it printed nothing'}"
