"""The benchmark under load: arrivals, outcomes, figures, and the command on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from crossrank.benchmarks.harness.workloads import Workload
from crossrank.benchmarks.load.arrivals import SIZES, Arrival, Phase, mean_size, poisson_arrivals
from crossrank.benchmarks.load.load_contenders import LoadProcess, chosen_load_peers
from crossrank.benchmarks.load.load_report import load_tables, write_load_plot
from crossrank.benchmarks.load.measure import LoadPlan, measure_load, summary
from crossrank.benchmarks.peers.contenders import Contender
from crossrank.benchmarks.peers.worker_process import WorkerError
from crossrank.cli.app import app
from crossrank.errors import InvalidInputError


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


@pytest.fixture
def fake(monkeypatch):
    started = []

    def start(**options):
        worker = LoadProcess(adapters=Path(__file__).parents[2] / "support")
        started.append(worker)
        worker.load("fake_load_adapter", options)
        worker.send_texts("query", ["a", "b", "c"])
        return worker

    yield start
    for worker in started:
        worker.close()


ARRIVALS = [Arrival(0.01 * index, "early" if index < 5 else "late", index, SIZES[index % 2]) for index in range(10)]


def test_requests_are_sent_when_they_are_due_even_if_earlier_ones_wait(fake):
    outcome = fake(seconds_a_document=0.002).open_loop(ARRIVALS, drain=5)
    latencies = [latency for latency, _ in outcome["outcomes"]]
    assert {kind for _, kind in outcome["outcomes"]} == {"ok"}
    assert latencies[0] < latencies[-1], "a queue grew"
    # Ten requests, one after the other, of 0.3 s in all; the last was due after 0.09.
    assert latencies[-1] > 0.2
    assert outcome["memory"]


def test_refused_failed_and_unfinished_requests_are_counted_separately(fake):
    refused = fake(seconds_a_document=0.01, most=2).open_loop(ARRIVALS, drain=5)
    assert [kind for _, kind in refused["outcomes"]].count("shed") >= 5
    failed = fake(fail="rerank").open_loop(ARRIVALS, drain=5)
    assert [kind for _, kind in failed["outcomes"]] == ["ok", "KeyError"] * 5
    late = fake(seconds_a_document=0.1).open_loop(ARRIVALS[:3], drain=0.1)
    assert [kind for _, kind in late["outcomes"]] == ["late"] * 3
    assert all(latency >= 0.1 for latency, _ in late["outcomes"])
    with pytest.raises(WorkerError, match="cannot read the weights"):
        fake(fail="load")


def test_callers_in_a_closed_loop_send_one_request_after_another(fake):
    outcome = fake(seconds_a_document=0.001).closed_loop(callers=3, seconds=0.5, sizes=[10])
    assert outcome["pairs"] == 10 * outcome["requests"] > 100
    assert len(outcome["times"]) == outcome["requests"]


def test_figures_of_a_phase():
    outcomes = [[0.1, "ok"], [0.2, "ok"], [0.0, "shed"], [9.0, "late"], [0.3, "KeyError"]] * 2
    outcome = {"outcomes": outcomes, "seconds": 2.0, "cpu_seconds": 1.0, "memory": [[0, 50.0], [1, 70.0], [2, 60.0]]}
    figures = summary([Phase("early", 1, 0.05), Phase("late", 1, 0.05), Phase("none", 1, 1.0)], ARRIVALS, outcome)
    assert set(figures) == {"early", "late", "none"}
    assert (figures["none"]["requests"], figures["none"]["latency"], figures["none"]["shed_share"]) == (0, {}, 0)
    early = figures["early"]
    assert early["requests"] == 5
    assert early["kinds"] == {"ok": 2, "shed": 1, "late": 1, "KeyError": 1}
    assert (early["shed_share"], early["late_share"]) == (0.2, 0.2)
    assert early["latency"]["p50"] == 0.2
    assert early["memory_mib"] == {"first": 50.0, "largest": 70.0, "last": 60.0}
    assert early["done_pairs_per_second"] == 0, "done after the phase ended"
    assert early["offered_pairs_per_second"] == pytest.approx(70 / 0.05)


def test_a_load_at_which_no_request_arrived_is_reported(tmp_path):
    outcome = {"outcomes": [[0.1, "ok"]] * 10, "seconds": 2.0, "cpu_seconds": 1.0, "memory": [[0, 50.0]]}
    figures = summary([Phase("early", 1, 0.05), Phase("none", 1, 0.1), Phase("late", 1, 0.05)], ARRIVALS, outcome)
    points = [{"load": 0.5, **figures["early"]}, {"load": 0.001, **figures["none"]}]
    turns = {"one_caller": [1.0], "saturated": [2.0]}
    rates = {"one_caller_pairs_per_second": 1.0, "saturated_pairs_per_second": 2.0, "idle_small_p50": 0.1}
    entry = {"title": "fake", "turns": turns, "points": points, "recovery": {"phases": figures, "memory": []}, **rates}
    _, under_load, recovery = load_tables({"fake": entry})
    assert [row[0] for row in under_load.rows] == ["50%", "0%"]
    assert under_load.rows[1][3:10] == ("",) * 7
    assert "No request arrived at 0%" in under_load.note
    assert [row[:2] for row in recovery.rows] == [("early", "5"), ("none", "0"), ("late", "5")]
    assert write_load_plot({"fake": entry}, tmp_path).stat().st_size > 1000


def test_a_contender_that_cannot_start_is_reported():
    texts = Workload("w", "w", "q", ("a",), (3,))
    contenders = [Contender("gone", "A peer", "not-installed", "fake_load_adapter")]
    results = measure_load(contenders, texts, LoadPlan(), peers_folder=Path("nowhere"), weights=None)
    assert "'not-installed' is not installed" in results["gone"]["failed"]
    with pytest.raises(InvalidInputError, match=r"nobody.*infinity"):
        chosen_load_peers(["nobody"])


def test_the_command_writes_figures_tables_and_a_plot(tiny_artifact, tmp_path):
    options = [
        "--model", tiny_artifact, "--documents", "short", "--loads", "0.5,2", "--seconds", "0.5", "--drain", "5",
        "--overload", "0.5", "--after", "0.5",
        "--json", tmp_path / "load.json", "--plots", tmp_path / "plots", "--markdown", tmp_path / "load.md",
    ]  # fmt: skip
    done = CliRunner().invoke(app, ["bench-load", *map(str, options)])
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
        (["--checkpoint", "/nowhere"], "checkpoint /nowhere"),
    ):
        refused = CliRunner().invoke(app, ["bench-load", *options])
        assert refused.exit_code == 2
        assert message in refused.stderr
    wrong = CliRunner().invoke(app, ["bench-load", "--loads", "much"])
    assert wrong.exit_code == 2
    assert "--loads 'much'" in wrong.stderr
