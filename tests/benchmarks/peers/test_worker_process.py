"""Contenders in separate processes: their answers, and how their failures are reported."""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from crossrank.benchmarks.harness.workloads import Workload
from crossrank.benchmarks.peers import comparison
from crossrank.benchmarks.peers.comparison import Scenario, compare, run_scenario, start_contender
from crossrank.benchmarks.peers.comparison_figures import Failure
from crossrank.benchmarks.peers.contenders import Contender, chosen_peers, own_contenders
from crossrank.benchmarks.peers.restartable_worker import LARGEST_IDLE_MIB, RestartableWorker
from crossrank.benchmarks.peers.worker_process import WorkerError, WorkerProcess
from crossrank.errors import InvalidInputError
from crossrank.reranker import Reranker

WORK = Workload("three", "three documents", "the river", ("cold water", "bread", "winter in Zürich"), (6, 5, 9))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(comparison, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def fake():
    """A function `(**options) -> WorkerProcess` with the fake contender loaded; the processes end with the test."""
    with ExitStack() as stack:

        def start(**options):
            worker = stack.enter_context(closing(WorkerProcess(adapters=Path(__file__).parents[2] / "support")))
            worker.load("fake_adapter", options)
            return worker

        yield start


def test_scores_come_back_in_order_whatever_a_library_prints(fake):
    worker = fake()
    worker.send_workload(WORK)
    assert worker.scores("three") == [len(WORK.query) + len(document) for document in WORK.documents]


def test_times_are_those_of_the_calls(fake):
    worker = fake(sleep=0.05)
    worker.send_workload(WORK)
    seconds = worker.time("three", calls=3)
    assert len(seconds) == 3
    assert all(0.05 <= value < 5 for value in seconds)
    memory = worker.memory()
    assert memory.peak_mib >= memory.resident_mib > 1


def test_a_failing_load_and_a_failing_call_are_reported_and_leave_the_process_usable(fake):
    with pytest.raises(WorkerError, match="ValueError: cannot read the weights"):
        fake(fail="load")
    worker = fake(fail="score")
    worker.send_workload(WORK)
    for _ in range(2):
        with pytest.raises(WorkerError, match="KeyError: 'ids'"):
            worker.scores("three")


def test_a_process_that_dies_is_reported_with_the_last_lines_it_printed(fake):
    worker = fake(fail="die")
    worker.send_workload(WORK)
    with pytest.raises(WorkerError, match=r"exit status 7: .*out of memory$"):
        worker.time("three")
    with pytest.raises(WorkerError):
        worker.time("three")


def test_a_call_that_never_ends_is_an_error_after_the_timeout(fake):
    worker = fake(sleep=60)
    worker.send_workload(WORK)
    with pytest.raises(WorkerError, match="no answer to 'time' within 0 s"):
        worker.time("three", timeout=0.2)


def test_an_interpreter_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(WorkerError, match="cannot start"):
        WorkerProcess(tmp_path / "python")


@pytest.fixture
def restartable():
    """A function `(**options) -> RestartableWorker` of the fake contender; the processes end with the test."""
    with ExitStack() as stack:

        def make(*, largest_idle_mib=LARGEST_IDLE_MIB, **options):
            def start():
                worker = WorkerProcess(adapters=Path(__file__).parents[2] / "support")
                return worker, worker.load("fake_adapter", options)

            return stack.enter_context(closing(RestartableWorker(start, largest_idle_mib=largest_idle_mib)))

        yield make


def test_a_process_that_holds_much_memory_is_ended_after_its_turn_and_started_again_for_the_next(restartable):
    small, large = restartable(), restartable(largest_idle_mib=1)
    for _ in range(3):
        for worker in (small, large):
            assert len(worker.time(WORK, calls=2)) == 2
            worker.end_turn()
            worker.end_turn()
    assert (small.starts, large.starts) == (1, 3)
    assert large.peak_mib() > 1
    assert large.scores(WORK) == small.scores(WORK)


def test_every_contender_is_timed_in_every_round_and_compared_with_ours(restartable):
    workers = {
        "crossrank-fp32": restartable(sleep=0.02),
        "other": restartable(sleep=0.06),
        "broken": restartable(fail="score"),
    }
    figures = run_scenario(Scenario(WORK, rounds=3, calls=2), workers).contenders
    assert figures["broken"] == Failure("KeyError: 'ids'")
    assert len(figures["other"].seconds) == len(figures["crossrank-fp32"].seconds) == 3
    ratio = figures["other"].times_as_long_as["crossrank-fp32"]
    assert ratio.smallest <= ratio.median <= ratio.largest
    assert ratio.median > 1
    assert figures["crossrank-fp32"].times_as_long_as == {}


def test_crossrank_as_a_contender_gives_its_scores_and_absent_peers_are_named(tiny_artifact, tmp_path):
    contenders = [
        *own_contenders({"fp32": tiny_artifact, "int8": tiny_artifact}),
        Contender("peer", "A peer", "not-installed", "fake_adapter"),
    ]
    start = partial(start_contender, peers_folder=tmp_path, weights=None)
    parts = [part.comparison for part in compare(contenders, [Scenario(WORK, rounds=1)], start)]
    assert [len(part.scenarios) for part in parts] == [0, 1, 1]
    result = parts[-1]
    assert "'not-installed' is not installed" in result.contenders["peer"].failed
    assert result.contenders["crossrank-fp32"].peak_mib > 1
    assert set(result.scenarios[0].contenders) == {"crossrank-fp32", "crossrank-int8"}
    with Reranker(tiny_artifact, precision="fp32") as one, Reranker(tiny_artifact, precision="int8") as other:
        logits = [reranker.score(WORK.query, WORK.documents).astype(float) for reranker in (one, other)]
    expected = np.abs(np.subtract(*(1 / (1 + np.exp(-values)) for values in logits))).max()
    agreement = result.agreement
    assert agreement.reference == "crossrank-fp32"
    assert agreement.contenders["crossrank-int8"].largest_difference == pytest.approx(expected, abs=1e-7)


def test_unknown_peers_are_refused_by_name():
    assert [peer.name for peer in chosen_peers(["fastembed"])[0]] == ["fastembed"]
    with pytest.raises(InvalidInputError, match=r"nobody.*sentence-transformers"):
        chosen_peers(["fastembed", "nobody"])
