"""Our side of a worker process: starts it, sends requests, and reports why it failed."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from crossrank.errors import CrossrankError

if TYPE_CHECKING:
    from types import TracebackType

    from crossrank.benchmarks.harness.workloads import Workload

WORKERS = Path(__file__).parent / "workers"
_ERROR_LINES = 3


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


class WorkerProcess:
    """A running `workers/worker.py`. A context manager: leaving it ends the process.

    Attributes:
        SCRIPT: the program in `workers/` that it runs.
    """

    SCRIPT = "worker.py"

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
                [str(python or sys.executable), str(WORKERS / self.SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=variables,
            )
        except OSError as error:
            self._errors.close()
            raise WorkerError(f"cannot start {python}: {error}") from error

    def load(self, adapter: str, options: dict[str, Any], *, timeout: float = 600.0) -> dict[str, Any]:
        """Load a reranker; returns the seconds that took, versions of its packages, and the scale of its scores."""
        return self._ask(timeout, command="load", adapter=adapter, options=options)

    def send_workload(self, workload: Workload) -> None:
        """Send a workload; later requests name it."""
        self._ask(60.0, command="workload", name=workload.name, query=workload.query, documents=workload.documents)

    def warm_up(self, workload: str, *, calls: int = 1, timeout: float = 600.0) -> None:
        """Make calls whose times do not count."""
        self._ask(timeout, command="warm_up", workload=workload, calls=calls)

    def time(self, workload: str, *, calls: int = 1, timeout: float = 600.0) -> list[float]:
        """Make calls one after the other; returns the seconds of each."""
        seconds: list[float] = self._ask(timeout, command="time", workload=workload, calls=calls)["seconds"]
        return seconds

    def scores(self, workload: str, *, timeout: float = 600.0) -> list[float]:
        """Scores of a workload's documents, in their order."""
        scores: list[float] = self._ask(timeout, command="score", workload=workload)["scores"]
        return scores

    def memory_mib(self) -> tuple[float, float]:
        """Resident memory of the process, in MiB: the peak so far, and now."""
        answer = self._ask(60.0, command="memory")
        return float(answer["peak_mib"]), float(answer["resident_mib"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

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

    def _ask(self, timeout: float, **request: object) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Raises:
            WorkerError: the process reported an error, ended, or did not answer in time (then it is killed).
        """
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        try:
            requests.write(json.dumps(request) + "\n")
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
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise WorkerError(answer["error"])
        return answer

    def _why_it_ended(self) -> str:
        """The exit status and the last lines that the process printed."""
        try:
            status: int | str = self._process.wait(10)
        except subprocess.TimeoutExpired:
            status = "unknown"
        self._errors.seek(0)
        last_lines = " / ".join(line.strip() for line in self._errors.read().strip().splitlines()[-_ERROR_LINES:])
        return f"the process ended with exit status {status}: {last_lines or 'it printed nothing'}"
