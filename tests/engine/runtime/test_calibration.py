"""Fitting the cost model to this machine, and remembering the fit."""

import dataclasses

import numpy as np
import pytest

from crossrank.engine.plan.cost import CostModel
from crossrank.engine.plan.shape_grid import Shape, ShapeGrid
from crossrank.engine.runtime import calibration
from crossrank.engine.runtime.calibration import (
    core_shapes,
    grid_shapes,
    measure,
    measure_operator_efficiency,
    measure_packing,
    recall,
    remember,
)

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(calibration.CACHE_VARIABLE, str(tmp_path / "fits"))
    return tmp_path / "fits"


@pytest.fixture
def clock(monkeypatch):
    """A machine whose runs take as long as a cost model says."""

    def tick(cost):
        now = [0.0]
        monkeypatch.setattr(calibration.time, "perf_counter", lambda: now[0])

        def run(rows, length):
            now[0] += float(cost.seconds(rows, length))

        return run

    return tick


@pytest.mark.parametrize(
    "cost",
    [
        CostModel(run=4e-4, row=3e-5, token=2e-5, token_squared=3e-8),
        CostModel(run=1e-2, row=1e-4, token=1e-6, token_squared=1e-9),
    ],
)
def test_a_machine_that_follows_the_model_is_fitted_exactly(clock, cost):
    assert dataclasses.astuple(measure(clock(cost), core_shapes(512, single=False))) == pytest.approx(
        dataclasses.astuple(cost), rel=1e-6
    )


@pytest.mark.parametrize(("max_length", "single"), [(512, True), (64, False), (16, False), (8, True)])
def test_other_runs_are_predicted_where_fewer_shapes_could_be_timed(clock, max_length, single):
    cost = CostModel(run=4e-4, row=3e-5, token=2e-5, token_squared=3e-8)
    shapes = []
    tick = clock(cost)

    def run(rows, length):
        shapes.append((rows, length))
        tick(rows, length)

    fitted = measure(run, core_shapes(max_length, single=single))
    assert all(length <= max_length for _, length in shapes)
    assert not single or {rows for rows, _ in shapes} == {1}
    assert all(value > 0 for value in dataclasses.astuple(fitted))
    longest = float(fitted.seconds(1, max_length))
    assert longest == pytest.approx(float(cost.seconds(1, max_length)), rel=0.05)


def test_no_coefficient_goes_below_zero_on_a_machine_where_more_work_takes_less_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: now[0])

    def run(rows, length):
        now[0] += 1.0 / (rows * length)

    fitted = measure(run, core_shapes(512, single=False))
    assert all(value > 0 for value in dataclasses.astuple(fitted))


def test_a_fit_is_remembered_for_its_graph_and_runtime_alone(folder):
    cost = CostModel(run=1e-3, row=1e-5, token=1e-6, token_squared=1e-9)
    assert recall("a" * 64, "1.32.0") is None
    path = remember(cost, "a" * 64, "1.32.0")
    assert path.parent == folder
    assert list(folder.iterdir()) == [path]
    assert recall("a" * 64, "1.32.0") == cost
    assert recall("b" * 64, "1.32.0") is None
    assert recall("a" * 64, "1.33.0") is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"run": 1}',
        '{"run": "x", "row": 1, "token": 1, "token_squared": 1}',
        '{"run": -1, "row": 1, "token": 1, "token_squared": 1}',
        '{"run": NaN, "row": 1, "token": 1, "token_squared": 1}',
        '{"run": null, "row": 1, "token": 1, "token_squared": 1}',
    ],
)
def test_a_damaged_file_counts_as_no_fit(content):
    path = remember(CostModel(run=1, row=1, token=1, token_squared=1), "a", "1")
    assert recall("a", "1") is not None
    path.write_text(content)
    assert recall("a", "1") is None


def test_calibrating_changes_the_plan_of_later_rerankers_but_no_score(reranker, scored, folder):
    before = reranker().score(scored.query, scored.documents)
    engine = reranker()
    cost = engine.calibrate()
    assert list(folder.iterdir())
    assert reranker()._loaded._kind.cost == engine._loaded._kind.cost == cost
    assert reranker(precision="int8")._loaded._kind.cost != cost
    np.testing.assert_allclose(engine.score(scored.query, scored.documents), before, atol=1e-5)


def test_nothing_is_measured_unless_asked(reranker, scored, folder):
    with reranker() as engine:
        engine.score("who", ["the river"])
        engine.warmup()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("speed_up", "cores", "efficiency"), [(3.0, 4, 0.75), (2.0, 2, 1.0), (2.2, 2, 1.0), (1.0, 8, 0.125)]
)
def test_operator_efficiency_on_all_cores_is_timed(monkeypatch, speed_up, cores, efficiency):
    now = [0.0]
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: now[0])

    def on_one(rows, length):
        now[0] += 1e-4 * rows * length

    def on_all(rows, length):
        now[0] += 1e-4 * rows * length / speed_up

    measured = measure_operator_efficiency(on_one, on_all, cores, [(1, 16), (1, 100), (1, 400)])
    assert measured == pytest.approx(efficiency)


def test_a_calibrated_reranker_uses_the_measured_operator_efficiency(reranker, monkeypatch):
    monkeypatch.setattr(calibration, "measure_operator_efficiency", lambda *_: 0.3)
    with reranker(threads=2) as engine:
        observed = []
        engine.observe_batches(lambda batch: observed.append(batch.all_cores))
        engine.score("who", ["the river"])
        assert engine.calibrate().operator_efficiency == 0.3
        engine.score("who", ["cold water"])
        assert observed == [True, False]
    assert reranker(threads=2)._loaded._kind.cost.operator_efficiency == 0.3


def test_with_one_thread_operator_efficiency_is_not_timed(reranker, monkeypatch):
    monkeypatch.setattr(calibration, "measure_operator_efficiency", lambda *_: 1 / 0)
    reranker(threads=1).calibrate()


@pytest.mark.parametrize("max_batch_tokens", [64, 16384])
def test_shapes_timed_on_a_device_are_the_grids(max_batch_tokens):
    grid = ShapeGrid.of(512, max_batch_tokens)
    shapes = grid_shapes(grid)
    assert all(grid.holds(Shape(*shape)) for shape in shapes)
    assert {length for _, length in shapes} == set(grid.lengths)
    assert {(grid.most_rows(length), length) for length in grid.lengths} <= set(shapes)


@pytest.mark.parametrize(("share", "expected"), [(0.25, 0.25), (0.0, 1e-9), (-0.1, 1e-9), (7.0, 1.0)])
@pytest.mark.parametrize("max_length", [512, 40, 8])
def test_what_pairs_of_other_lengths_cost_in_a_packed_run_is_timed(monkeypatch, share, expected, max_length):
    now = [0.0]
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: now[0])
    runs = []

    def run(lengths):
        runs.append(list(lengths))
        now[0] += 1e-3 + 1e-5 * sum(lengths) * (1 + share * (len(set(lengths)) > 1))

    cost = CostModel(run=1e-3, row=1e-9, token=1e-5, token_squared=1e-12)
    assert measure_packing(run, cost, max_length) == pytest.approx(expected)
    assert all(1 <= length <= max_length for lengths in runs for length in lengths)
    for even, uneven in zip(runs[::8], runs[4::8], strict=True):  # each is run four times
        assert sum(even) == sum(uneven)
        assert len(even) == len(uneven)
        assert len(set(even)) == 1 < len(set(uneven))


def test_pairs_too_short_to_differ_leave_the_share_as_it_is():
    cost = CostModel(run=1e-3, row=1e-9, token=1e-5, token_squared=1e-12, packing=0.07)
    assert measure_packing(lambda _: 1 / 0, cost, 4) == 0.07
