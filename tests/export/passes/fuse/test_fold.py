"""Floats that depend only on fixed dimensions become constants; those that depend on tokens or weights do not."""

from __future__ import annotations

import numpy as np
import onnx
from graph_runs import session_of
from onnx import TensorProto, helper, numpy_helper

from crossrank.export.graph.tools import LARGE_BYTES, GraphView, count_operators
from crossrank.export.passes.fuse.fold import fold_scales

HIDDEN = 64
TABLE = np.arange(130 * HIDDEN, dtype=np.float32).reshape(130, HIDDEN) / 1000


def graph_of(*nodes: onnx.NodeProto, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Embeddings `x` [batch, sequence, HIDDEN], times a `scale` that the nodes compute."""
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", HIDDEN])
    first = helper.make_node("Gather", ["table", "input_ids"], ["x"])
    last = helper.make_node("Mul", ["x", "scale"], ["logits"])
    tensors = [numpy_helper.from_array(value, name) for name, value in ({"table": TABLE} | constants).items()]
    graph = helper.make_graph([first, *nodes, last], "scaled", [ids], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def dimension(index: int) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes that compute the square root of a dimension of `x`, and their constants."""
    return [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "index"], ["size"]),
        helper.make_node("Cast", ["size"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Sqrt", ["wide"], ["scale"]),
    ], {"index": np.asarray(index)}


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    fold_scales(result)
    feeds = {"input_ids": np.arange(30).reshape(3, 10)}
    np.testing.assert_array_equal(*(session_of(graph).run(None, feeds)[0] for graph in (model, result)))
    return result


def test_a_scale_from_a_fixed_dimension_is_a_constant():
    nodes, constants = dimension(2)
    result = folded(graph_of(*nodes, constants=constants))

    assert count_operators(result.graph) == {"Gather": 1, "Mul": 1}
    assert GraphView(result.graph).constant("scale") == np.sqrt(np.float32(HIDDEN))
    onnx.checker.check_model(result, full_check=True)


def test_a_scale_from_the_length_is_computed_in_every_run():
    nodes, constants = dimension(1)
    result = folded(graph_of(*nodes, constants=constants))

    assert count_operators(result.graph)["Sqrt"] == 1


def test_a_value_from_a_large_table_is_not_folded():
    """Large weights are zeros while constant values are searched for."""
    large = np.full(LARGE_BYTES, 3, np.float32)
    nodes = (helper.make_node("Gather", ["large", "index"], ["scale"]),)
    result = folded(graph_of(*nodes, constants={"large": large, "index": np.asarray(5)}))

    assert count_operators(result.graph)["Gather"] == 2
