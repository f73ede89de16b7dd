"""The planner: every pair once, under the budget, in the least predicted time."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.engine.plan.batch_kinds import KINDS
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.plan.planner import plan
from crossrank.models.manifest import PACKED_ROWS, Architecture

LENGTHS = st.lists(st.integers(3, 512), max_size=60).map(lambda values: np.asarray(values, dtype=np.int64))
COSTS = st.builds(
    CostModel,
    run=st.floats(1e-6, 1e-2),
    row=st.floats(0, 1e-3),
    token=st.floats(1e-7, 1e-4),
    token_squared=st.floats(0, 1e-6),
)
COST = CostModel(run=4e-4, row=2e-5, token=1e-5, token_squared=1e-8)


def packed_seconds(cost, lengths):
    """Predicted time of a packed run: the fixed cost and the time of each pair without padding."""
    pairs = sum(float(cost.seconds(1, int(length))) - cost.run for length in lengths)
    return cost.run + pairs * (1 + cost.packing if len(set(lengths)) > 1 else 1)


@given(
    lengths=LENGTHS,
    cost=COSTS,
    budget=st.integers(1, 5000),
    workers=st.integers(1, 8),
    batching=st.sampled_from(["padded", "packed", "equal_length", "single"]),
)
def test_whatever_the_lengths_every_pair_runs_once_in_a_batch_that_fits(lengths, cost, budget, workers, batching):
    batches = plan(lengths, KINDS[batching](cost, budget), workers)
    assert sorted(np.concatenate([batch.indices for batch in batches]).tolist() if batches else []) == list(
        range(len(lengths))
    )
    for batch in batches:
        members = lengths[batch.indices]
        assert batch.length == members.max()
        assert len(members) * batch.length <= budget or len(members) == 1
        if batching == "packed":
            assert batch.run_tokens == members.sum()
            assert batch.seconds == pytest.approx(packed_seconds(cost, members.tolist()))
            assert len(members) <= PACKED_ROWS or len(set(members.tolist())) == 1
        else:
            assert batch.run_tokens == len(members) * batch.length
            assert batch.seconds == pytest.approx(float(cost.seconds(len(members), batch.length)))
        assert batching != "single" or len(members) == 1
        assert batching != "equal_length" or len(set(members.tolist())) == 1
    in_order = [length for batch in batches for length in lengths[batch.indices].tolist()]
    assert in_order == sorted(lengths.tolist(), reverse=True)


def groupings(count):
    """All ways to cut a sequence into contiguous groups, as (start, end) bounds."""
    for cuts in range(2 ** (count - 1)):
        bounds = [0, *(index + 1 for index in range(count - 1) if cuts >> index & 1), count]
        yield list(pairwise(bounds))


@given(
    lengths=st.lists(st.integers(3, 512) | st.sampled_from([20, 30]), min_size=1, max_size=10),
    cost=COSTS,
    budget=st.integers(1, 2500),
    batching=st.sampled_from(["padded", "packed"]),
)
def test_no_contiguous_grouping_is_predicted_to_be_faster(lengths, cost, budget, batching):
    longest_first = sorted(lengths, reverse=True)

    def seconds(start, end):
        if batching == "packed":
            return packed_seconds(cost, longest_first[start:end])
        return float(cost.seconds(end - start, longest_first[start]))

    def fits(start, end):
        uneven = longest_first[start] != longest_first[end - 1]
        if batching == "packed" and uneven and end - start > PACKED_ROWS:
            return False
        return end - start == 1 or (end - start) * longest_first[start] <= budget

    least = min(
        sum(seconds(start, end) for start, end in grouping)
        for grouping in groupings(len(lengths))
        if all(fits(start, end) for start, end in grouping)
    )
    batches = plan(np.asarray(lengths), KINDS[batching](cost, budget), 1)
    assert sum(batch.seconds for batch in batches) == pytest.approx(least)


def test_runs_that_cost_much_to_start_make_large_batches_and_free_ones_make_none():
    lengths = np.asarray([10, 20, 30, 40])
    dear = CostModel(run=1.0, row=0.0, token=1e-6, token_squared=0.0)
    free = CostModel(run=0.0, row=0.0, token=1e-6, token_squared=1e-9)
    assert len(plan(lengths, KINDS["padded"](dear, 1000), 1)) == 1
    assert len(plan(lengths, KINDS["padded"](free, 1000), 1)) == 4


def test_a_pair_longer_than_the_budget_runs_alone():
    batches = plan(np.asarray([8, 100, 8]), KINDS["padded"](COST, 16), 1)
    assert [batch.indices.tolist() for batch in batches] == [[1], [0, 2]]


def test_several_workers_get_work_to_share():
    lengths = np.full(64, 100)
    one = plan(lengths, KINDS["padded"](COST, 100_000), 1)
    four = plan(lengths, KINDS["padded"](COST, 100_000), 4)
    assert len(one) == 1
    assert len(four) >= 4
    seconds = [batch.seconds for batch in four]
    assert max(seconds) <= sum(seconds) / 4


@given(lengths=LENGTHS, budget=st.integers(1, 5000), workers=st.integers(1, 4))
def test_the_same_lengths_give_the_same_plan_and_are_not_changed(lengths, budget, workers):
    before = lengths.copy()
    plans = [plan(lengths, KINDS["padded"](COST, budget), workers) for _ in range(2)]
    first, second = ([(batch.indices.tolist(), batch.length) for batch in batches] for batches in plans)
    assert first == second
    assert lengths.tolist() == before.tolist()


def test_equal_lengths_keep_their_order():
    batches = plan(np.asarray([5, 9, 5, 9, 5]), KINDS["single"](COST, 100), 2)
    assert [batch.indices.tolist() for batch in batches] == [[1], [3], [0], [2], [4]]
    many = plan(np.tile([7, 9, 8], 100), KINDS["single"](COST, 100), 2)
    assert [int(batch.indices[0]) % 3 for batch in many] == [1] * 100 + [2] * 100 + [0] * 100
    assert all(
        first.indices[0] < second.indices[0] for first, second in pairwise(many) if first.length == second.length
    )


def test_no_pairs_make_no_batches():
    empty = np.empty(0, dtype=np.int64)
    assert plan(empty, KINDS["padded"](COST, 16), 2) == []
    assert plan(empty, KINDS["single"](COST, 16), 1) == []


@pytest.mark.parametrize("architecture", [{}, {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}])
def test_the_default_cost_grows_with_rows_and_more_than_in_proportion_with_length(architecture):
    cost = CostModel.of(Architecture(model_type="bert", **architecture))
    assert cost.seconds(2, 64) > cost.seconds(1, 64)
    assert cost.seconds(2, 64) < 2 * cost.seconds(1, 64)
    work = [float(cost.seconds(1, length)) - cost.run - cost.row for length in (128, 256)]
    assert work[1] > 2 * work[0]


def test_a_larger_model_is_predicted_to_take_longer():
    small = CostModel.of(Architecture(model_type="bert", hidden_size=128, num_hidden_layers=2, intermediate_size=512))
    large = CostModel.of(
        Architecture(model_type="bert", hidden_size=1024, num_hidden_layers=24, intermediate_size=4096)
    )
    assert large.seconds(1, 128) > 100 * small.seconds(1, 128)


def test_costs_are_predicted_for_arrays_of_shapes():
    seconds = COST.seconds(np.asarray([1, 2]), np.asarray([10, 20]))
    assert seconds.tolist() == [float(COST.seconds(1, 10)), float(COST.seconds(2, 20))]
