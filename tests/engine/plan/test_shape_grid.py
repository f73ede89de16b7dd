"""The grid of shapes: every run fits one of them under the budget, and there are few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.engine.plan.shape_grid import LENGTHS, Shape, ShapeGrid

GRIDS = st.builds(ShapeGrid.of, st.integers(8, 9000), st.integers(1, 70_000))


@given(grid=GRIDS, rows=st.integers(1, 3000), length=st.integers(1, 9000))
def test_a_run_is_padded_to_the_smallest_shape_that_holds_it(grid, rows, length):
    shape = grid.padded(rows, length)
    assert shape.rows >= rows
    assert shape.length >= length
    if length > grid.lengths[-1]:
        assert shape == (rows, length)
    else:
        assert shape.rows < 2 * rows
        assert not any(length <= shorter < shape.length for shorter in grid.lengths)
    assert grid.padded(*shape) == shape


@given(grid=GRIDS)
def test_shapes_are_those_under_the_budget_and_rows_alone_largest_first(grid):
    shapes = grid.shapes()
    assert len(set(shapes)) == len(shapes)
    assert [shape.tokens for shape in shapes] == sorted((shape.tokens for shape in shapes), reverse=True)
    assert {shape.length for shape in shapes} == set(grid.lengths)
    for shape in shapes:
        assert grid.holds(shape)
        assert shape.rows == 1 or shape.tokens <= grid.max_batch_tokens
        assert not grid.holds(Shape(2 * shape.rows, shape.length)) or Shape(2 * shape.rows, shape.length) in shapes
    for length in grid.lengths:
        most = grid.most_rows(length)
        assert 2 * most * length > grid.max_batch_tokens
        assert grid.holds(grid.padded(most, length))
        assert not grid.holds(grid.padded(most + 1, length))


@pytest.mark.parametrize(
    ("max_length", "lengths"),
    [
        (512, LENGTHS),
        (8192, LENGTHS),
        (511, (32, 64, 96, 128, 192, 256, 384, 511)),
        (100, (32, 64, 96, 100)),
        (32, (32,)),
        (8, (8,)),
    ],
)
def test_no_row_of_the_grid_is_longer_than_the_model_reads(max_length, lengths):
    assert ShapeGrid.of(max_length, 16384).lengths == lengths


def test_the_default_grid_has_fewer_shapes_than_get_buffers():
    from crossrank.engine.config import DEFAULT_BATCH_TOKENS
    from crossrank.engine.runtime.cuda.grid_runner import MOST_SHAPES

    assert len(ShapeGrid.of(512, DEFAULT_BATCH_TOKENS["cuda"]).shapes()) <= MOST_SHAPES
