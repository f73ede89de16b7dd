"""The comparison with other rerankers on the same weights: each in its own process, in turn, round by round.

The speed of a shared machine drifts, and contenders that run at once take processor time from each other. So in every
round each contender is timed alone, one after the other, and only the ratio to our own time of the same round counts.
After each turn there is a pause, in which threads that still spin go to sleep. A process that holds much memory is
ended after its turn, and started, loaded and warmed up again before its next one.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.harness.sampling import latency, ratio_per_round
from crossrank.benchmarks.peers.agreement import compare_scores
from crossrank.benchmarks.peers.contenders import OWN_PREFIX
from crossrank.benchmarks.peers.environments import interpreter
from crossrank.benchmarks.peers.restartable_worker import RestartableWorker
from crossrank.benchmarks.peers.worker_process import WorkerError, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.workloads import Workload
    from crossrank.benchmarks.peers.contenders import Contender
    from crossrank.benchmarks.peers.weights import Weights

PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Scenario:
    """A workload of the comparison.

    Attributes:
        workload: what every contender scores.
        rounds: timed rounds.
        calls: calls of a contender in a round, whose median counts; more than one where calls are very short.
    """

    workload: Workload
    rounds: int
    calls: int = 1


def start_workers(
    contenders: Iterable[Contender], peers_folder: Path | None, weights: Weights | None, stack: ExitStack
) -> tuple[dict[str, RestartableWorker], dict[str, dict[str, Any]]]:
    """Start and load every contender.

    Args:
        contenders: who takes part.
        peers_folder: where the peers' environments are.
        weights: forms of the weights for the peers.
        stack: ends the processes when it is closed.

    Returns:
        The workers that loaded, and for every contender what it reported on loading or why it failed.
    """
    workers: dict[str, RestartableWorker] = {}
    loads: dict[str, dict[str, Any]] = {}
    for contender in contenders:
        entry: dict[str, Any] = {"title": contender.title}
        loads[contender.name] = entry
        try:
            worker = stack.enter_context(RestartableWorker(partial(_start, contender, peers_folder, weights)))
            entry.update(worker.load)
            workers[contender.name] = worker
        except WorkerError as error:
            entry["failed"] = str(error)
    return workers, loads


def run_scenario(
    scenario: Scenario, workers: Mapping[str, RestartableWorker], *, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Time one workload on all contenders in turn.

    Args:
        scenario: the workload and how often.
        workers: loaded contenders by name.
        progress: called with each step as it begins.

    Returns:
        For every contender its latency, pairs a second, and the ratio of its time to that of each contender of ours.
        One that fails is reported with its reason and takes no further part.
    """
    workload = scenario.workload
    failed: dict[str, str] = {}
    times: dict[str, list[float]] = {name: [] for name in workers}
    for round_number in range(-1, scenario.rounds):  # the round before the first warms up
        for name, worker in workers.items():
            if name in failed:
                continue
            progress(f"{workload.name}: {'warm-up' if round_number < 0 else f'round {round_number + 1}'}, {name}")
            try:
                worker.prepare(workload)
                if round_number >= 0:
                    seconds = worker.time(workload, calls=scenario.calls)
                    times[name].append(sorted(seconds)[len(seconds) // 2])
                worker.end_turn()
            except WorkerError as error:
                failed[name] = str(error)
            time.sleep(PAUSE_SECONDS)
    references = [name for name in workers if name.startswith(OWN_PREFIX) and name not in failed]
    return {
        "name": workload.name,
        "title": workload.title,
        "pairs": len(workload.documents),
        "rounds": scenario.rounds,
        "calls": scenario.calls,
        "contenders": {
            name: {"failed": failed[name]} if name in failed else _figures(times, name, references, workload)
            for name in workers
        },
    }


def compare(
    contenders: Sequence[Contender],
    scenarios: Sequence[Scenario],
    *,
    peers_folder: Path | None,
    weights: Weights | None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Time all scenarios, and compare every contender's scores of the first one with those of the first contender.

    Args:
        contenders: who takes part, ours first.
        scenarios: what is timed.
        peers_folder: where the peers' environments are.
        weights: forms of the weights for the peers; None where only ours take part.
        progress: called with each step as it begins.

    Returns:
        `contenders` (what each reported on loading, and its peak memory), `agreement` of scores, and `scenarios`.
    """
    with ExitStack() as stack:
        progress("loading the contenders")
        workers, loads = start_workers(contenders, peers_folder, weights, stack)
        results = [run_scenario(scenario, workers, progress=progress) for scenario in scenarios]
        agreement = compare_scores(scenarios[0].workload, workers, loads) if scenarios else {}
        for name, worker in workers.items():
            try:
                loads[name]["peak_mib"] = worker.peak_mib()
            except WorkerError as error:
                loads[name]["failed"] = str(error)
    return {"contenders": loads, "agreement": agreement, "scenarios": results}


def contender_python(contender: Contender, peers_folder: Path | None) -> Path | None:
    """The interpreter that a contender runs in; None for our own.

    Raises:
        WorkerError: its environment is not installed.
    """
    if contender.environment is None:
        return None
    python = interpreter(peers_folder, contender.environment) if peers_folder else None
    if python is None:
        raise WorkerError(
            f"environment {contender.environment!r} is not installed in {peers_folder}; install it with "
            "'crossrank bench --install-peers FOLDER', which says why if it fails"
        )
    return python


def _start(
    contender: Contender, peers_folder: Path | None, weights: Weights | None
) -> tuple[WorkerProcess, dict[str, Any]]:
    """A process with the contender loaded, and what it reported on loading."""
    worker = WorkerProcess(contender_python(contender, peers_folder))
    try:
        return worker, worker.load(contender.adapter, contender.load_options(weights))
    except WorkerError:
        worker.close()
        raise


def _figures(
    times: Mapping[str, Sequence[float]], name: str, references: Sequence[str], workload: Workload
) -> dict[str, Any]:
    percentiles = latency(times[name])
    return {
        "seconds": list(times[name]),
        "latency": percentiles.as_json(),
        "pairs_per_second": len(workload.documents) / percentiles.p50,
        "times_as_long_as": {
            reference: ratio_per_round(times[name], times[reference]).as_json()
            for reference in references
            if reference != name
        },
    }
