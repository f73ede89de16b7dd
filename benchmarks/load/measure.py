"""Measuring one contender under load, and all of them.

Every offered load has a process of its own: a peer that refuses nobody carries its backlog along, and it must not weigh
on the next figure.
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
from crossrank.benchmarks.load.contenders import LoadProcess
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
"""Callers at once that are taken to saturate a contender."""
_SETTLE = 2.0
"""Seconds after an overload in which latency may still be out of order."""
_AFTER_RATE = 0.5
_TURNS = 5
"""One caller and many in turn: the machine's own ups and downs are larger than the difference."""


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """What to measure.

    Attributes:
        loads: offered loads, as shares of what the contender itself does when saturated.
        seconds: how long each is offered.
        drain: seconds that are given to finish what is open after the last arrival.
        overload_seconds: how long twice the saturating load is offered before the recovery is watched; 0 leaves it out.
        after_seconds: how long the recovery is watched.
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
        contenders: who takes part.
        texts: what requests take their texts from.
        plan: what to measure.
        peers_folder: where the peers' environments are.
        weights: forms of the weights for the peers.
        progress: told what is going on.
    """
    results: dict[str, Any] = {}
    for contender in contenders:
        start = partial(_process, contender, texts, peers_folder, weights)
        try:
            figures = _measure_one(start, len(texts.documents), plan, partial(_tell, progress, contender.name))
        except WorkerError as error:
            figures = {"failed": str(error)}
        results[contender.name] = {"title": contender.title, **figures}
    return results


@contextmanager
def _process(
    contender: Contender, texts: Workload, peers_folder: Path | None, weights: Weights | None
) -> Iterator[LoadProcess]:
    """A contender's process, loaded."""
    with LoadProcess(contender_python(contender, peers_folder)) as started:
        started.load(contender.adapter, contender.load_options(weights))
        started.give_texts(texts.query, texts.documents)
        yield started


def _tell(progress: Callable[[str], None], name: str, step: str) -> None:
    progress(f"{name}: {step}")


def _measure_one(
    process: Callable[[], AbstractContextManager[LoadProcess]],
    documents: int,
    plan: LoadPlan,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    alone, saturated, idle = [], [], []
    with process() as worker:
        for turn in range(_TURNS):
            progress(f"alone and saturated, {turn + 1} of {_TURNS}")
            seconds = plan.seconds / _TURNS
            alone.append(_pairs_per_second(worker.closed_loop(callers=1, seconds=seconds, sizes=SIZES)))
            idle += worker.closed_loop(callers=1, seconds=seconds / 2, sizes=[SMALLEST])["times"]
            saturated.append(_pairs_per_second(worker.closed_loop(callers=CALLERS, seconds=seconds, sizes=SIZES)))
    pairs_per_second = float(np.median(saturated))
    rate = pairs_per_second / mean_size()
    points = []
    for load in plan.loads:
        progress(f"{load:.0%} of saturation")
        steady = [Phase("steady", load * rate, plan.seconds)]
        arrivals = poisson_arrivals(steady, documents=documents)
        with process() as worker:
            outcome = worker.open_loop(arrivals, drain=plan.drain)
        points += [{"load": load, **figures} for figures in summary(steady, arrivals, outcome).values()]
    figures = {
        "one_caller_pairs_per_second": float(np.median(alone)),
        "saturated_pairs_per_second": pairs_per_second,
        "turns": {"one_caller": alone, "saturated": saturated},
        "idle_small_p50": float(np.median(idle)),
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
        with process() as worker:
            outcome = worker.open_loop(arrivals, drain=plan.drain)
        figures["recovery"] = {"phases": summary(phases, arrivals, outcome), "memory": outcome["memory"]}
    return figures


def _pairs_per_second(closed: Mapping[str, Any]) -> float:
    return float(closed["pairs"] / closed["seconds"])


def summary(
    phases: Sequence[Phase], arrivals: Sequence[Arrival], outcome: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Figures of each phase of an open loop; of one that no request arrived in, zeros and no latencies.

    Latencies of requests that were not done at the end count with the time they had waited by then, so percentiles of
    an overloaded contender are lower bounds.
    """
    figures: dict[str, dict[str, Any]] = {}
    memory = [mib for _, mib in outcome["memory"]]
    end = 0.0
    for phase in phases:
        end += phase.seconds
        chosen = [
            (arrival, latency, kind)
            for arrival, (latency, kind) in zip(arrivals, outcome["outcomes"], strict=True)
            if arrival.phase == phase.name
        ]
        kinds = Counter(kind for _, _, kind in chosen)
        waited = [latency for _, latency, kind in chosen if kind in {"ok", "late"}]
        small = [latency for arrival, latency, kind in chosen if kind in {"ok", "late"} and arrival.count == SMALLEST]
        in_time = sum(
            arrival.count for arrival, latency, kind in chosen if kind == "ok" and arrival.due + latency <= end
        )
        figures[phase.name] = {
            "requests": len(chosen),
            "offered_pairs_per_second": sum(arrival.count for arrival, _, _ in chosen) / phase.seconds,
            "done_pairs_per_second": in_time / phase.seconds,
            "kinds": dict(kinds),
            "shed_share": kinds["shed"] / max(len(chosen), 1),
            "late_share": kinds["late"] / max(len(chosen), 1),
            "latency": percentiles(waited),
            "small_latency": percentiles(small),
            "cpu_share": outcome["cpu_seconds"] / max(outcome["seconds"], 1e-9) / available_cores(),
            "memory_mib": {"first": memory[0], "largest": max(memory), "last": memory[-1]} if memory else {},
        }
    return figures
