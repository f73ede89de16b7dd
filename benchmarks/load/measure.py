"""Measures contenders under load.

Each offered load is measured in a new process: a peer that refuses no request has a backlog at the end, which would
slow down the next measurement.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from crossrank.benchmarks.harness.sampling import percentiles
from crossrank.benchmarks.load.arrivals import SIZES, SMALLEST, Phase, mean_size, poisson_arrivals
from crossrank.benchmarks.load.load_figures import (
    ContenderLoad,
    LoadFigures,
    LoadPoint,
    MemoryRange,
    PhaseFigures,
    Recovery,
    Throughput,
    Turns,
)
from crossrank.benchmarks.peers.comparison import starter
from crossrank.benchmarks.peers.contenders import own_contenders
from crossrank.benchmarks.peers.worker_process import WorkerError
from crossrank.engine.runtime.cores import available_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.result import Setup
    from crossrank.benchmarks.harness.workloads import DocumentLength, Workload
    from crossrank.benchmarks.load.arrivals import Arrival
    from crossrank.benchmarks.peers.contenders import Contender
    from crossrank.benchmarks.peers.worker_process import Loaded, OpenLoop, WorkerProcess

CALLERS = 8
"""Number of concurrent callers that is taken to saturate a contender."""
_SETTLE = 2.0
"""Seconds after an overload in which latency may still be high."""
_AFTER_RATE = 0.5
_DOCUMENTS = 400
_TURNS = 5
"""How often one caller and many are measured in turn: the machine's speed varies by more than their difference."""


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """What to measure.

    Attributes:
        loads: offered loads, as shares of the contender's own saturated throughput.
        seconds: how long each is offered.
        drain: seconds that unanswered requests get after the last arrival.
        overload_seconds: how long twice the saturating load is offered before recovery is measured; 0 leaves it out.
        after_seconds: how long half the saturating load is offered before the overload, and again after it.
    """

    loads: Sequence[float] = (0.3, 0.5, 0.7, 0.9, 1.0, 1.5, 2.0)
    seconds: float = 30.0
    drain: float = 10.0
    overload_seconds: float = 0.0
    after_seconds: float = 30.0


def run_load(
    setup: Setup,
    progress: Callable[[str], None],
    *,
    plan: LoadPlan,
    peers: Sequence[Contender],
    absent: Mapping[str, str],
    peers_folder: Path | None,
    documents: DocumentLength,
) -> Iterator[LoadFigures]:
    """Measure crossrank, then peers; see `measure_load`.

    Args:
        setup: what is measured.
        progress: called with each step as it begins.
        plan: how to measure.
        peers: that take part.
        absent: why others do not, to report.
        peers_folder: where the peers' environments are.
        documents: length of the documents.

    Yields:
        As `measure_load`.

    Raises:
        CrossrankError: the texts are too few, or the weights could not be converted for the peers.
    """
    texts = setup.maker.of_length(documents, _DOCUMENTS)
    start = starter(peers, setup.subject, peers_folder, progress)
    contenders = [*own_contenders(setup.artifacts, setup.subject.provider, concurrent=True), *peers]
    left_out = {name: ContenderLoad(name, failed=f"left out: {reason}") for name, reason in absent.items()}
    for load in measure_load(contenders, texts, plan, start, progress=progress):
        yield LoadFigures(texts.title, load | left_out)


def measure_load(
    contenders: Sequence[Contender],
    texts: Workload,
    plan: LoadPlan,
    start: Callable[[Contender], tuple[WorkerProcess, Loaded]],
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[dict[str, ContenderLoad]]:
    """Measure every contender; one that fails is reported with its reason, and with what was measured before.

    Args:
        contenders: what to measure.
        texts: the query and the documents that requests are made of.
        plan: how to measure.
        start: starts a process with a contender; see `starter`.
        progress: called with each step as it begins.

    Yields:
        Each contender by its name, after each step of each.
    """
    results: dict[str, ContenderLoad] = {}
    for contender in contenders:
        results[contender.name] = ContenderLoad(contender.title)
        try:
            for figures in _measure_one(contender, texts, plan, start, progress):
                results[contender.name] = figures
                yield dict(results)
        except WorkerError as error:
            results[contender.name] = replace(results[contender.name], failed=str(error))
            yield dict(results)


@contextmanager
def _running(
    contender: Contender, texts: Workload, start: Callable[[Contender], tuple[WorkerProcess, Loaded]]
) -> Iterator[WorkerProcess]:
    process, _ = start(contender)
    with closing(process):
        process.send_workload(texts)
        yield process


def _measure_one(
    contender: Contender,
    texts: Workload,
    plan: LoadPlan,
    start: Callable[[Contender], tuple[WorkerProcess, Loaded]],
    progress: Callable[[str], None],
) -> Iterator[ContenderLoad]:
    one_caller, saturated, idle_times = [], [], list[float]()
    with _running(contender, texts, start) as process:
        for turn in range(_TURNS):
            progress(f"{contender.name}: one caller and saturated, {turn + 1} of {_TURNS}")
            closed = partial(process.closed_loop, texts.name)
            seconds = plan.seconds / _TURNS
            one_caller.append(closed(callers=1, seconds=seconds, sizes=SIZES).pairs_per_second)
            idle_times += closed(callers=1, seconds=seconds / 2, sizes=[SMALLEST]).times
            saturated.append(closed(callers=CALLERS, seconds=seconds, sizes=SIZES).pairs_per_second)
    throughput = Throughput(
        float(np.median(one_caller)),
        float(np.median(saturated)),
        Turns(tuple(one_caller), tuple(saturated)),
        float(np.median(idle_times)),
    )
    figures = ContenderLoad(contender.title, throughput)
    yield figures
    rate = throughput.saturated_pairs_per_second / mean_size()
    for load in plan.loads:
        progress(f"{contender.name}: {load:.0%} of saturation")
        steady = [Phase("steady", load * rate, plan.seconds)]
        arrivals = poisson_arrivals(steady, documents=len(texts.documents))
        with _running(contender, texts, start) as process:
            outcome = process.open_loop(texts.name, arrivals, drain=plan.drain)
        (point,) = summary(steady, arrivals, outcome).values()
        figures = replace(figures, points=(*figures.points, LoadPoint(**vars(point), load=load)))
        yield figures
    if plan.overload_seconds > 0:
        progress(f"{contender.name}: overload and recovery")
        phases = [
            Phase("before", _AFTER_RATE * rate, plan.after_seconds),
            Phase("overload", 2 * rate, plan.overload_seconds),
            Phase("settling", _AFTER_RATE * rate, _SETTLE),
            Phase("after", _AFTER_RATE * rate, plan.after_seconds),
        ]
        arrivals = poisson_arrivals(phases, documents=len(texts.documents))
        with _running(contender, texts, start) as process:
            outcome = process.open_loop(texts.name, arrivals, drain=plan.drain)
        yield replace(figures, recovery=Recovery(summary(phases, arrivals, outcome), outcome.memory))


def summary(phases: Sequence[Phase], arrivals: Sequence[Arrival], outcome: OpenLoop) -> dict[str, PhaseFigures]:
    """Figures of each phase of an open loop; zeros and no latencies for a phase without requests.

    A request that was not done at the end counts with the time it had waited by then, so the percentiles of an
    overloaded contender are lower bounds.

    Args:
        phases: one after the other.
        arrivals: the requests.
        outcome: what became of them.
    """
    figures: dict[str, PhaseFigures] = {}
    memory = [mib for _, mib in outcome.memory]
    end = 0.0
    for phase in phases:
        end += phase.seconds
        of_phase = [
            (arrival, latency, kind)
            for arrival, (latency, kind) in zip(arrivals, outcome.outcomes, strict=True)
            if arrival.phase == phase.name
        ]
        kinds = Counter(kind for _, _, kind in of_phase)
        latencies = [latency for _, latency, kind in of_phase if kind in {"ok", "late"}]
        small_latencies = [
            latency for arrival, latency, kind in of_phase if kind in {"ok", "late"} and arrival.count == SMALLEST
        ]
        pairs_done = sum(
            arrival.count for arrival, latency, kind in of_phase if kind == "ok" and arrival.due + latency <= end
        )
        figures[phase.name] = PhaseFigures(
            requests=len(of_phase),
            offered_pairs_per_second=sum(arrival.count for arrival, _, _ in of_phase) / phase.seconds,
            done_pairs_per_second=pairs_done / phase.seconds,
            kinds=dict(kinds),
            shed_share=kinds["shed"] / max(len(of_phase), 1),
            late_share=kinds["late"] / max(len(of_phase), 1),
            latency=percentiles(latencies),
            small_latency=percentiles(small_latencies),
            cpu_share=outcome.cpu_seconds / max(outcome.seconds, 1e-9) / available_cores(),
            memory_mib=MemoryRange(memory[0], max(memory), memory[-1]) if memory else None,
        )
    return figures
