"""Plans are those of the planner that compared names of kinds, on random lengths."""

import numpy as np
import old_planner
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.engine.plan.batch_kinds import KINDS, GridShapes
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.plan.planner import plan
from crossrank.engine.plan.shape_grid import ShapeGrid

FEW = st.sampled_from([7, 8, 9, 20, 21])
LENGTHS = st.lists(st.integers(3, 512), max_size=80) | st.lists(FEW, max_size=120)
COSTS = st.builds(
    CostModel,
    run=st.floats(1e-6, 1e-2),
    row=st.floats(0, 1e-3),
    token=st.floats(1e-7, 1e-4),
    token_squared=st.floats(0, 1e-6),
    packing=st.floats(0, 1),
)
GRIDS = st.builds(
    ShapeGrid,
    st.lists(st.integers(1, 300), min_size=1, max_size=6, unique=True).map(lambda lengths: tuple(sorted(lengths))),
    st.integers(1, 5000),
)


def same(old, new):
    assert [batch.indices.tolist() for batch in old] == [batch.indices.tolist() for batch in new]
    assert [batch.length for batch in old] == [batch.length for batch in new]
    assert [batch.run_tokens for batch in old] == [batch.run_tokens for batch in new]
    assert [batch.seconds for batch in old] == [batch.seconds for batch in new]


@settings(max_examples=700, deadline=None)
@given(LENGTHS, COSTS, st.integers(1, 5000), st.integers(1, 8), st.sampled_from(sorted(KINDS)))
def test_kinds_of_a_processor(lengths, cost, budget, workers, batching):
    lengths = np.asarray(lengths, dtype=np.int64)
    old = old_planner.plan(lengths, batching=batching, cost=cost, max_batch_tokens=budget, workers=workers)
    same(old, plan(lengths, KINDS[batching](cost, budget), workers))


@settings(max_examples=700, deadline=None)
@given(LENGTHS, COSTS, GRIDS, st.integers(1, 4))
def test_shapes_of_a_grid(lengths, cost, grid, workers):
    lengths = np.asarray(lengths, dtype=np.int64)
    budget = grid.max_batch_tokens
    old = old_planner.plan(lengths, batching="padded", cost=cost, max_batch_tokens=budget, workers=workers, grid=grid)
    same(old, plan(lengths, GridShapes(cost, budget, grid), workers))
