"""Measures contenders under load.

Each offered load is measured in a new process: a peer that refuses no request has a backlog at the end, which would
slow down the next measurement.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.benchmarks.harness.sampling import percentiles
from crossrank.benchmarks.load.arrivals import SIZES, Phase, mean_size, poisson_arrivals
from crossrank.benchmarks.load.load_contenders import LoadProcess
from crossrank.benchmarks.peers.comparison import contender_python
from crossrank.benchmarks.peers.worker_process import WorkerError
from crossrank.engine.runtime.cores import available_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.workloads import Workload
    from crossrank.benchmarks.load.arrivals import Arrival
    from crossrank.benchmarks.peers.contenders import Contender
    from crossrank.benchmarks.peers.weights import Weights

SMALLEST = SIZES[0]
CALLERS = 8
"""Number of concurrent callers that is taken to saturate a contender."""
_SETTLE = 2.0
"""Seconds after an overload in which latency may still be high."""
_AFTER_RATE = 0.5
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


def measure_load(
    contenders: Sequence[Contender],
    texts: Workload,
    plan: LoadPlan,
    *,
    peers_folder: Path | None,
    weights: Weights | None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure every contender; one that fails is reported with its reason.

    Args:
        contenders: what to measure.
        texts: the query and the documents that requests are made of.
        plan: how to measure.
        peers_folder: where the peers' environments are.
        weights: forms of the weights for the peers.
        progress: called with each step as it begins.

    Returns:
        For each contender by its name its title and its figures, or `failed` with the reason.
    """
    results: dict[str, Any] = {}
    for contender in contenders:
        start = partial(_loaded_process, contender, texts, peers_folder, weights)
        try:
            figures = _measure_one(start, len(texts.documents), plan, partial(_report_step, progress, contender.name))
        except WorkerError as error:
            figures = {"failed": str(error)}
        results[contender.name] = {"title": contender.title, **figures}
    return results


@contextmanager
def _loaded_process(
    contender: Contender, texts: Workload, peers_folder: Path | None, weights: Weights | None
) -> Iterator[LoadProcess]:
    with LoadProcess(contender_python(contender, peers_folder)) as process:
        process.load(contender.adapter, contender.load_options(weights))
        process.send_texts(texts.query, texts.documents)
        yield process


def _report_step(progress: Callable[[str], None], name: str, step: str) -> None:
    progress(f"{name}: {step}")


def _measure_one(
    start: Callable[[], AbstractContextManager[LoadProcess]],
    documents: int,
    plan: LoadPlan,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    one_caller, saturated, idle_times = [], [], []
    with start() as process:
        for turn in range(_TURNS):
            progress(f"one caller and saturated, {turn + 1} of {_TURNS}")
            seconds = plan.seconds / _TURNS
            one_caller.append(_pairs_per_second(process.closed_loop(callers=1, seconds=seconds, sizes=SIZES)))
            idle_times += process.closed_loop(callers=1, seconds=seconds / 2, sizes=[SMALLEST])["times"]
            saturated.append(_pairs_per_second(process.closed_loop(callers=CALLERS, seconds=seconds, sizes=SIZES)))
    pairs_per_second = float(np.median(saturated))
    rate = pairs_per_second / mean_size()
    points = []
    for load in plan.loads:
        progress(f"{load:.0%} of saturation")
        steady = [Phase("steady", load * rate, plan.seconds)]
        arrivals = poisson_arrivals(steady, documents=documents)
        with start() as process:
            outcome = process.open_loop(arrivals, drain=plan.drain)
        points += [{"load": load, **figures} for figures in summary(steady, arrivals, outcome).values()]
    figures = {
        "one_caller_pairs_per_second": float(np.median(one_caller)),
        "saturated_pairs_per_second": pairs_per_second,
        "turns": {"one_caller": one_caller, "saturated": saturated},
        "idle_small_p50": float(np.median(idle_times)),
        "points": points,
    }
    if plan.overload_seconds > 0:
        progress("overload and recovery")
        phases = [
            Phase("before", _AFTER_RATE * rate, plan.after_seconds),
            Phase("overload", 2 * rate, plan.overload_seconds),
            Phase("settling", _AFTER_RATE * rate, _SETTLE),
            Phase("after", _AFTER_RATE * rate, plan.after_seconds),
        ]
        arrivals = poisson_arrivals(phases, documents=documents)
        with start() as process:
            outcome = process.open_loop(arrivals, drain=plan.drain)
        figures["recovery"] = {"phases": summary(phases, arrivals, outcome), "memory": outcome["memory"]}
    return figures


def _pairs_per_second(outcome: Mapping[str, Any]) -> float:
    return float(outcome["pairs"] / outcome["seconds"])


def summary(
    phases: Sequence[Phase], arrivals: Sequence[Arrival], outcome: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Figures of each phase of an open loop; zeros and no latencies for a phase without requests.

    A request that was not done at the end counts with the time it had waited by then, so the percentiles of an
    overloaded contender are lower bounds.

    Args:
        phases: one after the other.
        arrivals: the requests.
        outcome: what `LoadProcess.open_loop` returned for them.
    """
    figures: dict[str, dict[str, Any]] = {}
    memory = [mib for _, mib in outcome["memory"]]
    end = 0.0
    for phase in phases:
        end += phase.seconds
        of_phase = [
            (arrival, latency, kind)
            for arrival, (latency, kind) in zip(arrivals, outcome["outcomes"], strict=True)
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
        figures[phase.name] = {
            "requests": len(of_phase),
            "offered_pairs_per_second": sum(arrival.count for arrival, _, _ in of_phase) / phase.seconds,
            "done_pairs_per_second": pairs_done / phase.seconds,
            "kinds": dict(kinds),
            "shed_share": kinds["shed"] / max(len(of_phase), 1),
            "late_share": kinds["late"] / max(len(of_phase), 1),
            "latency": percentiles(latencies),
            "small_latency": percentiles(small_latencies),
            "cpu_share": outcome["cpu_seconds"] / max(outcome["seconds"], 1e-9) / available_cores(),
            "memory_mib": {"first": memory[0], "largest": max(memory), "last": memory[-1]} if memory else {},
        }
    return figures
