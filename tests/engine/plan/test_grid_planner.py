"""Plans for a grid of shapes: every pair once, shapes of the grid, and no grouping is predicted to be faster."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.engine.plan.batch_kinds import GridShapes
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.plan.planner import one_batch, plan
from crossrank.engine.plan.shape_grid import ShapeGrid

COSTS = st.builds(
    CostModel,
    run=st.floats(1e-6, 1e-2),
    row=st.floats(0, 1e-3),
    token=st.floats(1e-7, 1e-4),
    token_squared=st.floats(0, 1e-6),
)
GRIDS = st.builds(
    ShapeGrid,
    st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True).map(lambda lengths: tuple(sorted(lengths))),
    st.integers(1, 400),
)


def planned(lengths, grid, cost, workers=1):
    return plan(np.asarray(lengths, dtype=np.int64), GridShapes(cost, grid.max_batch_tokens, grid), workers)


@given(lengths=st.lists(st.integers(1, 60), max_size=60), grid=GRIDS, cost=COSTS, workers=st.integers(1, 4))
def test_every_pair_runs_once_in_a_shape_that_holds_it(lengths, grid, cost, workers):
    batches = planned(lengths, grid, cost, workers)
    assert sorted(index for batch in batches for index in batch.indices.tolist()) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch.indices)
        shape = grid.padded(len(batch.indices), longest)
        assert batch.length == shape.length
        assert batch.seconds == pytest.approx(float(cost.seconds(*shape)))
        assert grid.holds(shape) == (longest <= grid.lengths[-1])
        assert len(batch.indices) <= grid.most_rows(longest)
    in_order = [lengths[index] for batch in batches for index in batch.indices.tolist()]
    assert in_order == sorted(lengths, reverse=True)


def groupings(count):
    for cuts in range(2 ** (count - 1)):
        yield list(pairwise([0, *(index + 1 for index in range(count - 1) if cuts >> index & 1), count]))


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=9), grid=GRIDS, cost=COSTS)
def test_no_contiguous_grouping_is_predicted_to_be_faster(lengths, grid, cost):
    longest_first = sorted(lengths, reverse=True)

    def seconds(start, end):
        if end - start > grid.most_rows(longest_first[start]):
            return math.inf
        return float(cost.seconds(*grid.padded(end - start, longest_first[start])))

    least = min(sum(seconds(*group) for group in grouping) for grouping in groupings(len(lengths)))
    assert sum(batch.seconds for batch in planned(lengths, grid, cost)) == pytest.approx(least)


def test_several_devices_share_a_request():
    cost = CostModel(run=1e-3, row=1e-6, token=1e-6, token_squared=1e-9)
    grid = ShapeGrid.of(512, 16384)
    assert [len(batch.indices) for batch in planned([100] * 64, grid, cost)] == [64]
    assert [len(batch.indices) for batch in planned([100] * 64, grid, cost, workers=2)] == [32, 32]


@given(
    rows=st.integers(1, 40),
    more=st.integers(1, 40),
    length=st.integers(1, 60),
    other=st.integers(1, 60),
    grid=GRIDS,
    cost=COSTS,
)
def test_batches_of_several_requests_join_only_in_a_shape_under_the_budget(rows, more, length, other, grid, cost):
    kind = GridShapes(cost, grid.max_batch_tokens, grid)
    one, two = (
        one_batch(np.arange(count), np.full(count, tokens), kind) for count, tokens in ((rows, length), (more, other))
    )
    longest = max(length, other)
    joined = grid.padded(rows + more, longest)
    size = kind.joined(one, two)
    assert (size.rows, size.length, size.run_tokens) == (rows + more, joined.length, joined.tokens)
    assert size.seconds == pytest.approx(float(cost.seconds(*joined)))
    if kind.may_join(one, two):
        assert joined.tokens <= grid.max_batch_tokens
        assert grid.holds(joined) or longest > grid.lengths[-1]
    else:
        assert rows + more > grid.most_rows(longest)
