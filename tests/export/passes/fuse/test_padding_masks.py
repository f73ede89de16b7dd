"""Masks are recognised by what they do to scores, however they are written; and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossrank.export.graph.shapes import probe_shapes
from crossrank.export.passes.fuse.padding_masks import PaddingMasks

LOWEST = float(np.finfo(np.float32).min)
CONSTANTS = {
    "zero": np.float32(0),
    "one": np.float32(1),
    "lowest": np.float32(LOWEST),
    "little": np.float32(-5),
    "none": np.int64(0),
    "step": np.int64(1),
    "window": np.int64(100),
    "both": np.asarray([1, 2]),
    "inner": np.asarray([1]),
    "second": np.asarray([2]),
    "outer": np.asarray([0, 1]),
}


def node(op_type, inputs, output, **attributes):
    return helper.make_node(op_type, inputs, [output], **attributes)


FLOATS = [
    node("Unsqueeze", ["attention_mask", "both"], "wide"),
    node("Cast", ["wide"], "kept", to=TensorProto.FLOAT),
    node("Sub", ["one", "kept"], "left_out"),
]
KEPT = [
    node("Unsqueeze", ["attention_mask", "both"], "wide"),
    node("Cast", ["wide"], "kept", to=TensorProto.BOOL),
]
DISTANCES = [
    node("Shape", ["input_ids"], "length", start=1),
    node("Squeeze", ["length"], "count"),
    node("Range", ["none", "count", "step"], "places"),
    node("Unsqueeze", ["places", "none_axis"], "row"),
    node("Unsqueeze", ["places", "inner"], "column"),
    node("Sub", ["row", "column"], "far"),
    node("Abs", ["far"], "distance"),
]
NEAR = [
    *KEPT,
    *DISTANCES,
    node("LessOrEqual", ["distance", "window"], "near_by"),
    node("Unsqueeze", ["near_by", "outer"], "near"),
    node("And", ["kept", "near"], "seen"),
]


def graph(nodes):
    constants = CONSTANTS | {"none_axis": np.asarray([0])}
    ids = ["batch", "sequence"]
    names = ("input_ids", "attention_mask", "token_type_ids")
    return helper.make_model(
        helper.make_graph(
            nodes,
            "masks",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ids) for name in names],
            [onnx.ValueInfoProto(name="result")],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


def masks_of(model):
    return PaddingMasks(model, probe_shapes(model))


@pytest.mark.parametrize(
    ("nodes", "value"),
    [
        ([*FLOATS, node("Mul", ["left_out", "lowest"], "result")], LOWEST),
        ([*KEPT, node("Where", ["kept", "zero", "lowest"], "result")], LOWEST),
        ([*KEPT, node("Where", ["kept", "lowest", "zero"], "result")], None),
        # Too little to bring a weight of the softmax to zero.
        ([*FLOATS, node("Mul", ["left_out", "little"], "result")], None),
        # Adds to the scores of tokens as well.
        ([*KEPT, node("Where", ["kept", "one", "lowest"], "result")], None),
        # Hides what is far away, which shows only in pairs longer than the window.
        ([*NEAR, node("Where", ["seen", "zero", "lowest"], "result")], None),
        # Hides tokens by their segment.
        (
            [
                node("Unsqueeze", ["token_type_ids", "both"], "wide"),
                node("Cast", ["wide"], "kept", to=TensorProto.BOOL),
                node("Where", ["kept", "zero", "lowest"], "result"),
            ],
            None,
        ),
        # Depends on which tokens there are, besides.
        (
            [
                *KEPT,
                node("Unsqueeze", ["input_ids", "both"], "ids"),
                node("Cast", ["ids"], "known", to=TensorProto.BOOL),
                node("And", ["kept", "known"], "seen"),
                node("Where", ["seen", "zero", "lowest"], "result"),
            ],
            None,
        ),
        # One row a query: hides queries that are padding, and no keys.
        (
            [
                node("Unsqueeze", ["attention_mask", "inner"], "once"),
                node("Unsqueeze", ["once", "last"], "wide"),
                node("Cast", ["wide"], "kept", to=TensorProto.BOOL),
                node("Where", ["kept", "zero", "lowest"], "result"),
            ],
            None,
        ),
    ],
)
def test_what_is_added_to_scores_of_padding(nodes, value):
    model = graph(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([3]), "last"))
    assert masks_of(model).added_to_padding("result") == value


@pytest.mark.parametrize(
    ("nodes", "marks"),
    [
        ([*KEPT, node("Not", ["kept"], "result")], True),
        ([*KEPT, node("Identity", ["kept"], "result")], False),
        ([*NEAR, node("Not", ["seen"], "result")], None),
        ([*FLOATS, node("Identity", ["left_out"], "result")], None),
    ],
)
def test_what_a_choice_by_where_is_true_for(nodes, marks):
    model = graph(nodes)
    assert masks_of(model).marks_padding("result") is marks


def test_a_mask_that_asks_hidden_states_for_their_shape_is_run_without_them():
    table = numpy_helper.from_array(np.ones((9, 2000), np.float32), "table")
    model = graph(
        [
            node("Gather", ["table", "input_ids"], "hidden"),
            node("Shape", ["hidden"], "sizes", start=1, end=2),
            node("Concat", ["first_sizes", "sizes"], "target", axis=0),
            *FLOATS,
            node("Mul", ["left_out", "lowest"], "added"),
            node("Expand", ["added", "target"], "result"),
        ]
    )
    model.graph.initializer.extend([table, numpy_helper.from_array(np.asarray([1, 1, 1]), "first_sizes")])
    assert masks_of(model).added_to_padding("result") == LOWEST


def test_a_window_longer_than_is_tried_is_no_mask_of_padding():
    model = graph([*NEAR, node("Where", ["seen", "zero", "lowest"], "result")])
    [window] = [tensor for tensor in model.graph.initializer if tensor.name == "window"]
    window.CopyFrom(numpy_helper.from_array(np.asarray(4096), "window"))
    assert masks_of(model).added_to_padding("result") is None
