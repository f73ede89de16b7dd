"""Rounding to eight bits: products stay exact in onnxruntime's kernels, and compensation lowers their error."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from crossrank.export.passes.int8.rounding import (
    LIMIT,
    PAIR_LIMIT,
    activation_range,
    quantize_along,
    quantize_columns,
    quantize_columns_for,
    quantize_rows,
    through_uint8,
)

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**31 - 1), st.floats(0.3, 6))


def heavy_tailed(rows, columns, seed, power=3.0):
    normal = np.random.default_rng(seed).normal(size=(rows, columns))
    return (np.sign(normal) * np.abs(normal) ** power).astype(np.float32)


def assert_pairs_are_bounded(integers):
    assert integers.dtype == np.int8
    widened = integers.astype(int)
    assert np.abs(widened).max(initial=0) <= LIMIT
    even = len(widened) // 2 * 2
    assert np.abs(widened[0:even:2] + widened[1:even:2]).max(initial=0) <= PAIR_LIMIT


def exact_products(integers, activation):
    """Whether onnxruntime multiplies without saturating."""
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, ["m", integers.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(integers, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    product = session.run(None, {"a": activation})[0]
    return np.array_equal(product, activation.astype(np.int64) @ integers.astype(np.int64))


@given(SHAPES)
def test_pairs_of_rows_stay_within_the_limit(case):
    rows, columns, seed, power = case
    integers, _ = quantize_columns(heavy_tailed(rows, columns, seed, power))
    assert_pairs_are_bounded(integers)


@given(SHAPES)
@settings(max_examples=30)
def test_compensated_rounding_keeps_pairs_within_the_limit(case):
    rows, columns, seed, power = case
    inputs = np.random.default_rng(seed).normal(size=(3 * rows, rows)).astype(np.float32)
    scale, zero = activation_range(float(inputs.min()), float(inputs.max()))
    integers, _ = quantize_columns_for(
        heavy_tailed(rows, columns, seed, power), inputs, through_uint8(inputs, scale, zero)
    )
    assert_pairs_are_bounded(integers)


@pytest.mark.parametrize("rows", [1, 2, 64, 129])
def test_the_largest_allowed_weights_multiply_exactly(rows):
    integers = np.full((48, 32), PAIR_LIMIT // 2, np.int8)
    integers[0::4], integers[1::4] = LIMIT, 1
    integers[:, ::2] *= -1
    assert_pairs_are_bounded(integers)
    assert exact_products(integers, np.full((rows, 48), 255, np.uint8))


def test_the_rounded_matrix_is_close_to_the_original():
    weight = np.random.default_rng(0).normal(size=(384, 64)).astype(np.float32)
    integers, scales = quantize_columns(weight)
    error = np.sqrt(np.mean((integers * scales - weight) ** 2))

    # Seven bits and no more: a step of largest / 63 and the error of uniform rounding.
    of_seven_bits = np.sqrt(np.mean((np.abs(weight).max(axis=0) / 63) ** 2 / 12))
    assert error < 0.8 * of_seven_bits


def test_compensated_rounding_lowers_the_error_of_the_product():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(96, 96)).astype(np.float32)
    inputs, held_out = (rng.normal(size=(2000, 96)).astype(np.float32) @ mixing for _ in range(2))
    weight = rng.normal(size=(96, 48)).astype(np.float32)

    def error(rounded):
        integers, scales = rounded
        return np.mean((held_out @ (integers * scales) - held_out @ weight) ** 2)

    assert error(quantize_columns_for(weight, inputs, inputs)) < 0.6 * error(quantize_columns(weight))


def test_columns_and_rows_of_zeros_stay_zero():
    weight = np.zeros((6, 3), np.float32)
    weight[:, 1] = 2.0
    integers, scales = quantize_columns(weight)
    np.testing.assert_array_equal((integers * scales)[:, [0, 2]], 0)
    integers, scales = quantize_rows(weight.T.copy())
    np.testing.assert_array_equal((integers * scales)[[0, 2]], 0)


def test_every_row_of_a_table_has_its_scale():
    table = np.random.default_rng(2).normal(size=(50, 16)).astype(np.float32) * np.logspace(-3, 3, 50)[:, None]
    integers, scales = quantize_rows(table.astype(np.float32))
    assert integers.shape == (50, 16)
    assert scales.shape == (50, 1)
    assert np.all(np.abs(integers * scales - table) <= scales * 0.5001)


def test_stacked_matrices_have_one_scale_per_column_of_each():
    stack = np.random.default_rng(3).normal(size=(4, 8, 16)).astype(np.float32)
    integers, scales = quantize_along(stack, axis=1)
    assert scales.shape == (4, 1, 16)
    assert np.all(np.abs(integers * scales - stack) <= scales * 0.5001)


@given(st.floats(-100, 100), st.floats(-100, 100))
def test_zero_is_always_represented_exactly(left, right):
    scale, zero = activation_range(min(left, right), max(left, right))
    assert scale > 0
    assert through_uint8(np.zeros(3, np.float32), scale, zero).tolist() == [0, 0, 0]
