"""Counts and percentiles in fixed memory, corrected predictions, the bound on what waits."""

import numpy as np
import pytest
from fake_runner import COST, pairs_of
from hypothesis import given
from hypothesis import strategies as st

from crossrank.engine.plan.run_times import RunTimes
from crossrank.engine.schedule.request import Run
from crossrank.engine.schedule.statistics import Histogram, Statistics


@given(st.lists(st.floats(2e-6, 5e3), min_size=1, max_size=300))
def test_percentiles_are_right_to_within_six_percent(values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    times = histogram.times()
    for share, found in ((50, times.p50), (90, times.p90), (99, times.p99)):
        exact = float(np.percentile(values, share, method="inverted_cdf"))
        assert found == pytest.approx(exact, rel=0.0601)
    assert times.longest == max(values)
    assert times.mean == pytest.approx(np.mean(values))
    assert times.count == len(values)


def test_numbers_outside_the_buckets_are_counted_in_the_outermost():
    histogram = Histogram()
    for value in (0.0, -1.0, 1e-9, 1e9):
        histogram.add(value)
    assert histogram.times().count == 4
    assert Histogram().times() == type(histogram.times())(0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_padding_and_batch_sizes():
    statistics = Statistics()
    statistics.run(rows=1, tokens=10, run_tokens=10, seconds=0.1)
    statistics.run(rows=3, tokens=20, run_tokens=30, seconds=0.1)
    statistics.run(rows=4, tokens=20, run_tokens=20, seconds=0.1)
    stats = statistics.snapshot(refused=2, waiting=1, queue_tokens=5, time_factor=1.0)
    assert (stats.runs, stats.pairs) == (3, 8)
    assert dict(stats.batch_sizes) == {1: 1, 4: 2}
    assert stats.padded_token_share == pytest.approx(1 - 50 / 60)
    assert stats.failures["overloaded"] == 2
    assert set(stats.failures) == {"inference", "worker", "deadline", "overloaded", "closed", "cancelled"}


def a_run(length=100, *, all_cores=False):
    return Run((), length, float(COST.seconds(1, length)), length, all_cores=all_cores)


def test_predictions_follow_what_runs_took_and_one_disturbed_run_moves_them_little():
    times = RunTimes(COST, workers=2)
    run = a_run()
    assert times.typical(run.seconds) == pytest.approx(run.seconds)
    for _ in range(20):
        times.observe(run.seconds, 3 * run.seconds, run.tokens, all_cores=run.all_cores)
    times.observe(run.seconds, 100 * run.seconds, run.tokens, all_cores=run.all_cores)
    assert times.factor == pytest.approx(3)
    assert times.careful(run.seconds) == pytest.approx(3 * run.seconds)
    for _ in range(20):
        times.observe(run.seconds, 0.5 * run.seconds, run.tokens, all_cores=run.all_cores)
    assert times.factor == pytest.approx(0.5)


def test_the_careful_prediction_is_one_that_most_runs_keep():
    times = RunTimes(COST, workers=1)
    run = a_run()
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(500):
        took = run.seconds * rng.lognormal(0.3, 0.3)
        kept.append(took <= times.careful(run.seconds))
        times.observe(run.seconds, took, run.tokens, all_cores=run.all_cores)
    assert 0.65 < np.mean(kept[50:]) < 0.95


def test_runs_on_all_cores_have_a_factor_of_their_own():
    times = RunTimes(COST, workers=4)
    on_one_core, on_all = a_run(), a_run(all_cores=True)
    times.observe(on_one_core.seconds, 2 * on_one_core.seconds, on_one_core.tokens, all_cores=on_one_core.all_cores)
    assert times.typical(on_all.seconds, all_cores=True) == pytest.approx(2 * on_all.seconds / 3.2), "until it has run"
    times.observe(on_all.seconds, on_all.seconds, on_all.tokens, all_cores=on_all.all_cores)
    assert times.typical(on_all.seconds, all_cores=True) == pytest.approx(on_all.seconds)
    assert times.factor == pytest.approx(2)
    times.reset(COST)
    assert times.factor == 1.0


def test_pairs_of_numbers_them():
    assert pairs_of([3, 2], first=7).documents.ids.tolist() == [7, 1, 1, 8, 1]
