"""Additions of zero are dropped, and only those."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossrank.export.graph.tools import count_operators
from crossrank.export.passes.int8.zero_terms import drop_zero_terms

WIDTH = 2000  # large enough to count as a weight, whose values are not read


def graph_adding(term):
    """Rows of a table plus a term: of an all-ones mask, of the segment ids, or of a large weight of zeros."""
    one = numpy_helper.from_array(np.ones(1, np.float32), "value")
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["ones"], value=one),
        helper.make_node("Sub", ["one", "ones"], ["masked"]),
        helper.make_node("Cast", ["token_type_ids"], ["segments"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["masked" if term == "mask" else "segments", "axis"], ["wide"]),
        helper.make_node("Mul", ["weight", "one"], ["scaled"]),
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Add", ["rows", "scaled" if term == "weight" else "wide"], ["sum"]),
        helper.make_node("ReduceSum", ["sum", "axis"], ["logits"], keepdims=0),
    ]
    constants = {
        "one": np.ones((), np.float32),
        "axis": np.asarray([2], np.int64),
        "weight": np.zeros(WIDTH, np.float32),
        "table": np.ones((9, WIDTH), np.float32),
    }
    ids = ["batch", "sequence"]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "adding",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ids) for name in ("input_ids", "token_type_ids")],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ids)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )


@pytest.mark.parametrize(("term", "left"), [("mask", 0), ("segments", 1), ("weight", 1)])
def test_only_terms_that_are_zero_for_every_input_are_dropped(term, left):
    model = drop_zero_terms(graph_adding(term))
    assert count_operators(model.graph)["Add"] == left
    onnx.checker.check_model(model)
