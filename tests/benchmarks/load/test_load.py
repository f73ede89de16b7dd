"""The benchmark under load: arrivals, outcomes, figures, and the command on a tiny model."""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from last_part import whole
from typer.testing import CliRunner

from crossrank.benchmarks.harness.workloads import Workload
from crossrank.benchmarks.load.arrivals import SIZES, Arrival, Phase, mean_size, poisson_arrivals
from crossrank.benchmarks.load.load_figures import (
    ContenderLoad,
    LoadFigures,
    LoadPoint,
    MemoryRange,
    Recovery,
    Throughput,
    Turns,
)
from crossrank.benchmarks.load.measure import LoadPlan, measure_load, summary
from crossrank.benchmarks.peers.comparison import start_contender
from crossrank.benchmarks.peers.contenders import LOAD_PEERS, Contender, chosen_peers
from crossrank.benchmarks.peers.worker_process import OpenLoop, WorkerError, WorkerProcess
from crossrank.cli.app import app


def test_arrivals_are_those_of_a_poisson_process_with_every_size():
    phases = [Phase("slow", 50, 100), Phase("fast", 200, 50)]
    arrivals = poisson_arrivals(phases, documents=300, seed=1)
    assert arrivals == poisson_arrivals(phases, documents=300, seed=1)
    assert arrivals != poisson_arrivals(phases, documents=300, seed=2)
    for phase, start in zip(phases, (0, 100), strict=True):
        due = np.array([arrival.due for arrival in arrivals if arrival.phase == phase.name])
        assert start <= due[0]
        assert due[-1] < start + phase.seconds
        gaps = np.diff(due)
        assert np.mean(gaps) == pytest.approx(1 / phase.rate, rel=0.1)
        assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.1)
    counts = [arrival.count for arrival in arrivals]
    assert set(counts) == set(SIZES)
    assert np.mean(counts) == pytest.approx(mean_size(), rel=0.05)
    assert all(0 <= arrival.first < 300 for arrival in arrivals)


TEXTS = Workload("texts", "texts", "query", ("a", "b", "c"), (3, 3, 3))


@pytest.fixture
def fake():
    started = []

    def start(**options):
        worker = WorkerProcess(adapters=Path(__file__).parents[2] / "support")
        started.append(worker)
        worker.load("fake_load_adapter", options)
        worker.send_workload(TEXTS)
        return worker

    yield start
    for worker in started:
        worker.close()


ARRIVALS = [Arrival(0.01 * index, "early" if index < 5 else "late", index, SIZES[index % 2]) for index in range(10)]


def test_requests_are_sent_when_they_are_due_even_if_earlier_ones_wait(fake):
    outcome = fake(seconds_a_document=0.002).open_loop("texts", ARRIVALS, drain=5)
    latencies = [latency for latency, _ in outcome.outcomes]
    assert {kind for _, kind in outcome.outcomes} == {"ok"}
    assert latencies[0] < latencies[-1], "a queue grew"
    # Ten requests, one after the other, of 0.3 s in all; the last was due after 0.09.
    assert latencies[-1] > 0.2
    assert outcome.memory


def test_refused_failed_and_unfinished_requests_are_counted_separately(fake):
    refused = fake(seconds_a_document=0.01, most=2).open_loop("texts", ARRIVALS, drain=5)
    assert [kind for _, kind in refused.outcomes].count("shed") >= 5
    failed = fake(fail="rerank").open_loop("texts", ARRIVALS, drain=5)
    assert [kind for _, kind in failed.outcomes] == ["ok", "KeyError"] * 5
    late = fake(seconds_a_document=0.1).open_loop("texts", ARRIVALS[:3], drain=0.1)
    assert [kind for _, kind in late.outcomes] == ["late"] * 3
    assert all(latency >= 0.1 for latency, _ in late.outcomes)
    with pytest.raises(WorkerError, match="cannot read the weights"):
        fake(fail="load")


def test_callers_in_a_closed_loop_send_one_request_after_another(fake):
    outcome = fake(seconds_a_document=0.001).closed_loop("texts", callers=3, seconds=0.5, sizes=[10])
    assert outcome.pairs == 10 * outcome.requests > 100
    assert len(outcome.times) == outcome.requests


OUTCOMES = ((0.1, "ok"), (0.2, "ok"), (0.0, "shed"), (9.0, "late"), (0.3, "KeyError")) * 2


def test_figures_of_a_phase():
    outcome = OpenLoop(OUTCOMES, 2.0, 1.0, ((0, 50.0), (1, 70.0), (2, 60.0)))
    figures = summary([Phase("early", 1, 0.05), Phase("late", 1, 0.05), Phase("none", 1, 1.0)], ARRIVALS, outcome)
    assert set(figures) == {"early", "late", "none"}
    assert (figures["none"].requests, figures["none"].latency, figures["none"].shed_share) == (0, None, 0)
    early = figures["early"]
    assert early.requests == 5
    assert early.kinds == {"ok": 2, "shed": 1, "late": 1, "KeyError": 1}
    assert (early.shed_share, early.late_share) == (0.2, 0.2)
    assert early.latency.p50 == 0.2
    assert early.memory_mib == MemoryRange(50.0, 70.0, 60.0)
    assert early.done_pairs_per_second == 0, "done after the phase ended"
    assert early.offered_pairs_per_second == pytest.approx(70 / 0.05)


def test_a_load_at_which_no_request_arrived_is_reported(tmp_path):
    outcome = OpenLoop(((0.1, "ok"),) * 10, 2.0, 1.0, ((0, 50.0),))
    figures = summary([Phase("early", 1, 0.05), Phase("none", 1, 0.1), Phase("late", 1, 0.05)], ARRIVALS, outcome)
    points = (LoadPoint(**vars(figures["early"]), load=0.5), LoadPoint(**vars(figures["none"]), load=0.001))
    throughput = Throughput(1.0, 2.0, Turns((1.0,), (2.0,)), 0.1)
    measured = LoadFigures("texts", {"fake": ContenderLoad("fake", throughput, points, Recovery(figures, ()))})
    _, under_load, recovery = measured.tables()
    assert [row[0] for row in under_load.rows] == ["50%", "0%"]
    assert under_load.rows[1][3:10] == ("",) * 7
    assert "No request arrived at 0%" in under_load.note
    assert [row[:2] for row in recovery.rows] == [("early", "5"), ("none", "0"), ("late", "5")]
    (plot,) = measured.write_plots(tmp_path)
    assert plot.stat().st_size > 1000


def test_a_contender_that_cannot_start_is_reported():
    contenders = [Contender("gone", "A peer", "not-installed", "fake_load_adapter")]
    start = partial(start_contender, peers_folder=Path("nowhere"), weights=None)
    results = whole(measure_load(contenders, TEXTS, LoadPlan(), start))
    assert "'not-installed' is not installed" in results["gone"].failed
    (table,) = LoadFigures("texts", results).tables()
    assert "'not-installed' is not installed" in table.rows[0][-1]


def test_what_was_measured_of_a_contender_before_it_failed_is_kept(fake):
    processes = []

    def start(_):
        if len(processes) == 2:
            raise WorkerError("no memory")
        processes.append(fake())
        return processes[-1], None

    plan = LoadPlan(loads=(0.01, 0.02), seconds=0.05, drain=1)
    contenders = [Contender("fake", "A fake", None, "fake_load_adapter")]
    parts = list(measure_load(contenders, TEXTS, plan, start))
    assert [len(part["fake"].points) for part in parts] == [0, 1, 1]
    last = parts[-1]["fake"]
    assert (last.title, last.failed) == ("A fake", "no memory")
    assert last.throughput.saturated_pairs_per_second > 0


def test_a_reranker_that_knows_no_event_loop_serves_callers_from_threads():
    with closing(WorkerProcess(adapters=Path(__file__).parents[2] / "support")) as worker:
        worker.load("fake_adapter", {"device": "cpu", "sleep": 0.01})
        worker.send_workload(TEXTS)
        outcome = worker.open_loop("texts", ARRIVALS, drain=5)
        assert {kind for _, kind in outcome.outcomes} == {"ok"}
        assert worker.closed_loop("texts", callers=2, seconds=0.2, sizes=[10]).requests > 2


def test_the_peers_under_load_run_on_every_provider():
    for provider in ("cpu", "cuda"):
        peers, absent = chosen_peers(LOAD_PEERS, provider)
        assert [peer.name for peer in peers] == list(LOAD_PEERS)
        assert absent == {}


def test_the_command_writes_figures_tables_and_a_plot(tiny_artifact, tmp_path):
    options = [
        "--model", tiny_artifact, "--documents", "short", "--loads", "0.5,2", "--seconds", "0.5", "--drain", "5",
        "--overload", "0.5", "--after", "0.5",
        "--json", tmp_path / "load.json", "--plots", tmp_path / "plots", "--markdown", tmp_path / "load.md",
    ]  # fmt: skip
    done = CliRunner().invoke(app, ["bench", "load", *map(str, options)])
    assert done.exit_code == 0, done.output
    entry = json.loads((tmp_path / "load.json").read_text())["load"]["crossrank-int8"]
    assert {point["load"] for point in entry["points"]} == {0.5, 2.0}
    for point in entry["points"]:
        assert set(point["kinds"]) <= {"ok", "shed"}
    assert set(entry["recovery"]["phases"]) <= {"before", "overload", "settling", "after"}
    assert "overload" in entry["recovery"]["phases"]
    assert (tmp_path / "plots" / "load.png").stat().st_size > 1000
    text = (tmp_path / "load.md").read_text()
    assert "## Under load: crossrank-int8" in text
    assert "(plots/load.png)" in text
    for options, message in (
        (["--peers", "infinity"], "--peers goes with --peers-folder"),
        (["--peers", "nobody", "--peers-folder", "."], "nobody"),
        (["--checkpoint", "/nowhere"], "checkpoint /nowhere"),
    ):
        refused = CliRunner().invoke(app, ["bench", "load", *options])
        assert refused.exit_code == 2
        assert message in refused.stderr
    wrong = CliRunner().invoke(app, ["bench", "load", "--loads", "much"])
    assert wrong.exit_code == 2
    assert "--loads 'much'" in wrong.stderr
