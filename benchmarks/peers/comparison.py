"""The comparison with other rerankers on the same weights: each in its own process, in turn, round by round.

The speed of a shared machine drifts, and contenders that run at once take processor time from each other. So in every
round each contender is timed alone, one after the other, and only the ratio to our own time of the same round counts.
After each turn there is a pause, in which threads that still spin go to sleep. A process that holds much memory is
ended after its turn, and started, loaded and warmed up again before its next one.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from crossrank.benchmarks.harness.sampling import latency, ratio_per_round
from crossrank.benchmarks.harness.workloads import ONE_PAIR_TOKENS
from crossrank.benchmarks.peers.agreement import compare_scores
from crossrank.benchmarks.peers.comparison_figures import (
    Comparison,
    ContenderReport,
    ContenderTimes,
    Failure,
    PeerFigures,
    ScenarioFigures,
)
from crossrank.benchmarks.peers.contenders import OWN_PREFIX, own_contenders
from crossrank.benchmarks.peers.environments import interpreter
from crossrank.benchmarks.peers.restartable_worker import RestartableWorker
from crossrank.benchmarks.peers.weights import prepare_weights
from crossrank.benchmarks.peers.worker_process import WorkerError, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.result import Setup, Subject
    from crossrank.benchmarks.harness.workloads import Workload, WorkloadMaker
    from crossrank.benchmarks.peers.contenders import Contender
    from crossrank.benchmarks.peers.weights import Weights
    from crossrank.benchmarks.peers.worker_process import Loaded

PAUSE_SECONDS = 0.2
_ONE_PAIR_CALLS = 20


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


def scenarios_of(
    maker: WorkloadMaker, *, rounds: int, curve_top_ks: Sequence[int], three_scenarios: bool = True
) -> list[Scenario]:
    """The workloads of the comparison: three scenarios, then the points of the curve.

    Args:
        maker: makes the workloads.
        rounds: of each.
        curve_top_ks: top-ks of the latency curve (middle documents).
        three_scenarios: whether to make the former.

    Raises:
        InvalidInputError: the texts are too few or too short.
    """
    scenarios = [Scenario(maker.of_length("middle", top_k), rounds) for top_k in curve_top_ks]
    if not three_scenarios:
        return scenarios
    return [
        Scenario(maker.mixed(100), rounds),
        Scenario(maker.of_length("short", 1000), rounds),
        Scenario(maker.of_pair_length(ONE_PAIR_TOKENS, 1), rounds, _ONE_PAIR_CALLS),
        *scenarios,
    ]


def starter(
    peers: Sequence[Contender], subject: Subject, peers_folder: Path | None, progress: Callable[[str], None]
) -> Callable[[Contender], tuple[WorkerProcess, Loaded]]:
    """What starts contenders: ours, and peers on the subject's weights, which are converted for them.

    Args:
        peers: that take part.
        subject: what is measured.
        peers_folder: where the peers' environments are.
        progress: called with each step as it begins.

    Raises:
        WeightsError: the weights could not be converted.
    """
    weights = None
    if peers and subject.checkpoint is not None and peers_folder is not None:
        progress("preparing the peers' weights")
        weights = prepare_weights(subject.checkpoint, peers_folder, subject.provider)
    return partial(start_contender, peers_folder=peers_folder, weights=weights)


def start_contender(
    contender: Contender, *, peers_folder: Path | None, weights: Weights | None
) -> tuple[WorkerProcess, Loaded]:
    """A process with a contender loaded, and what it reported on loading.

    Args:
        contender: what to load.
        peers_folder: where the peers' environments are.
        weights: forms of the weights for the peers; None where only ours take part.

    Raises:
        WorkerError: its environment is not installed, or it cannot be loaded.
    """
    python = None
    if contender.environment is not None:
        python = interpreter(peers_folder, contender.environment) if peers_folder else None
        if python is None:
            raise WorkerError(
                f"environment {contender.environment!r} is not installed in {peers_folder}; install it with "
                "'crossrank bench peers --install-only --peers-folder FOLDER', which says why if it fails"
            )
    worker = WorkerProcess(python)
    try:
        return worker, worker.load(contender.adapter, contender.load_options(weights))
    except WorkerError:
        worker.close()
        raise


def run_scenario(
    scenario: Scenario, workers: Mapping[str, RestartableWorker], *, progress: Callable[[str], None] = lambda _: None
) -> ScenarioFigures:
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
    return ScenarioFigures(
        workload.name,
        workload.title,
        len(workload.documents),
        scenario.rounds,
        scenario.calls,
        {
            name: Failure(failed[name]) if name in failed else _figures(times, name, references, workload)
            for name in workers
        },
    )


def compare_with_peers(
    setup: Setup,
    progress: Callable[[str], None],
    *,
    peers: Sequence[Contender],
    absent: Mapping[str, str],
    peers_folder: Path,
    rounds: int,
    curve_top_ks: Sequence[int],
    three_scenarios: bool,
) -> Iterator[PeerFigures]:
    """Compare crossrank in each precision with peers; see `scenarios_of` and `compare`.

    Args:
        setup: what is measured.
        progress: called with each step as it begins.
        peers: that take part.
        absent: why others do not.
        peers_folder: where their environments are.
        rounds: of each scenario.
        curve_top_ks: top-ks of the latency curve.
        three_scenarios: whether to run the three scenarios.

    Yields:
        As `compare`.

    Raises:
        InvalidInputError: the texts are too few or too short.
        WeightsError: the weights could not be converted for the peers.
    """
    scenarios = scenarios_of(setup.maker, rounds=rounds, curve_top_ks=curve_top_ks, three_scenarios=three_scenarios)
    start = starter(peers, setup.subject, peers_folder, progress)
    contenders = [*own_contenders(setup.artifacts, setup.subject.provider), *peers]
    yield from compare(contenders, scenarios, start, absent=absent, progress=progress)


def compare(
    contenders: Sequence[Contender],
    scenarios: Sequence[Scenario],
    start: Callable[[Contender], tuple[WorkerProcess, Loaded]],
    *,
    absent: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[PeerFigures]:
    """Time all scenarios, and compare every contender's scores of the first one with those of the first contender.

    Args:
        contenders: who takes part, ours first.
        scenarios: what is timed.
        start: starts a process with a contender; see `start_contender`.
        absent: why other peers take no part, to report.
        progress: called with each step as it begins.

    Yields:
        The figures after loading, after each scenario, and with the agreement of scores.
    """
    with ExitStack() as stack:
        progress("loading the contenders")
        workers: dict[str, RestartableWorker] = {}
        reports: dict[str, ContenderReport] = {}
        for contender in contenders:
            try:
                worker = stack.enter_context(closing(RestartableWorker(partial(start, contender))))
            except WorkerError as error:
                reports[contender.name] = ContenderReport(contender.title, failed=str(error))
            else:
                workers[contender.name] = worker
                reports[contender.name] = ContenderReport(contender.title, worker.loaded)
        comparison = Comparison(reports, dict(absent or {}))
        yield PeerFigures(comparison)
        for scenario in scenarios:
            figures = run_scenario(scenario, workers, progress=progress)
            comparison = replace(comparison, scenarios=(*comparison.scenarios, figures))
            yield PeerFigures(comparison)
        agreement = compare_scores(scenarios[0].workload, workers) if scenarios else None
        for name, worker in workers.items():
            try:
                reports[name] = replace(reports[name], peak_mib=worker.peak_mib())
            except WorkerError as error:
                reports[name] = replace(reports[name], failed=str(error))
        yield PeerFigures(replace(comparison, agreement=agreement))


def _figures(
    times: Mapping[str, Sequence[float]], name: str, references: Sequence[str], workload: Workload
) -> ContenderTimes:
    percentiles = latency(times[name])
    ratios = {
        reference: ratio_per_round(times[name], times[reference]) for reference in references if reference != name
    }
    return ContenderTimes(tuple(times[name]), percentiles, len(workload.documents) / percentiles.p50, ratios)
