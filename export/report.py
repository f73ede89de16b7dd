"""What an export reports while it runs and when it is done."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from crossrank.models.manifest import Fidelity, PassRecord, Precision, Provider, Source, Verification


@dataclass(frozen=True)
class ExportEvent:
    """One thing that happened during an export, for a progress display.

    Attributes:
        step: what is done, in a few words ("quantize to int8").
        state: "started", "advanced" (a part of a long step is done) or "finished".
        seconds: time since the step started; 0 at the start.
        size: bytes the step made or read; 0 where that means nothing.
        done: parts done so far, where the step has parts.
        total: number of parts; 0 where the step has none.
    """

    step: str
    state: Literal["started", "advanced", "finished"]
    seconds: float = 0.0
    size: int = 0
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class StepReport:
    """A finished step: its name, its time in seconds and the bytes it made or read."""

    name: str
    seconds: float
    size: int = 0


@dataclass(frozen=True)
class GraphReport:
    """One graph of the new artifact.

    Attributes:
        precision: "fp32", "int8" or "fp16".
        file: its name in the artifact.
        size: bytes of the graph with its external data.
        providers: the execution providers it is for.
        fidelity: how far its logits are from its reference.
        passes: what the graph passes did.
        milliseconds_per_pair: mean over the verification pairs, one pair a run on this machine's CPU.
    """

    precision: Precision
    file: str
    size: int
    providers: tuple[Provider, ...]
    fidelity: Fidelity
    passes: tuple[PassRecord, ...]
    milliseconds_per_pair: float


@dataclass(frozen=True)
class ExportReport:
    """What an export made.

    Attributes:
        artifact: folder of the artifact.
        name: its name.
        graphs: one report for each graph in it.
        steps: the steps in order, with their times.
        verification: what the scores were compared with: the library, its version, and on how many probe pairs.
        notes: what was assumed because neither the caller nor the checkpoint said it, and what to know of the graphs.
        source: what it was made from: hub repository and commit, or folder or file, with digests.
    """

    artifact: Path
    name: str
    graphs: tuple[GraphReport, ...]
    steps: tuple[StepReport, ...]
    verification: Verification
    notes: tuple[str, ...] = ()
    source: Source | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types (dicts, lists, strings, numbers)."""
        return {
            "artifact": str(self.artifact),
            "name": self.name,
            "graphs": [
                {
                    "precision": graph.precision,
                    "file": graph.file,
                    "size": graph.size,
                    "providers": list(graph.providers),
                    "fidelity": graph.fidelity.model_dump(),
                    "passes": [record.model_dump() for record in graph.passes],
                    "milliseconds_per_pair": graph.milliseconds_per_pair,
                }
                for graph in self.graphs
            ],
            "steps": [{"name": step.name, "seconds": step.seconds, "size": step.size} for step in self.steps],
            "verification": self.verification.model_dump(),
            "notes": list(self.notes),
            "source": self.source.model_dump() if self.source else None,
        }


@dataclass
class Step:
    """A step under way; `size` may be set before it ends."""

    name: str
    emit: Callable[[ExportEvent], None]
    started: float = field(default_factory=time.perf_counter)
    size: int = 0

    def advance(self, done: int, total: int) -> None:
        """Report that `done` of `total` parts are done."""
        seconds = time.perf_counter() - self.started
        self.emit(ExportEvent(self.name, "advanced", seconds, self.size, done, total))


class Recorder:
    """Times the steps of one export and passes events to the caller's function, in the exporting thread."""

    def __init__(self, progress: Callable[[ExportEvent], None] | None = None) -> None:
        self._emit = progress or (lambda _event: None)
        self._steps: list[StepReport] = []

    @property
    def steps(self) -> tuple[StepReport, ...]:
        """The steps finished so far."""
        return tuple(self._steps)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time a step; a step that raises leaves no finished event."""
        self._emit(ExportEvent(name, "started"))
        step = Step(name, self._emit)
        yield step
        seconds = time.perf_counter() - step.started
        self._steps.append(StepReport(name, seconds, step.size))
        self._emit(ExportEvent(name, "finished", seconds, step.size))
