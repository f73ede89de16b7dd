"""Graph files: weights inside or beside, the same graph either way, and the one in memory untouched."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossrank.export.graph.files import load_graph, save_graph, weight_bytes


@pytest.fixture
def model():
    """A graph with a raw, a typed and a small initializer, and everything around that a file may hold."""
    random = np.random.default_rng(0)
    table = random.normal(size=(100, 64)).astype(np.float32)
    matrix = random.normal(size=(64, 32)).astype(np.float32)
    typed = helper.make_tensor("typed", TensorProto.FLOAT, matrix.shape, matrix.ravel().tolist())
    assert not typed.raw_data
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("MatMul", ["rows", "typed"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["out"]),
        ],
        "graph",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(table, "table"), typed, numpy_helper.from_array(np.ones(32, np.float32), "bias")],
        value_info=[helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 64])],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=8
    )
    made.producer_name = "a test"
    made.metadata_props.add(key="a", value="b")
    return made


def run(path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"ids": np.array([3, 50, 99])})[0]


def test_weights_beside_the_graph_are_the_same_weights(model, tmp_path):
    before = model.SerializeToString(deterministic=True)
    assert save_graph(model, tmp_path, "inside.onnx") == ()
    assert save_graph(model, tmp_path, "beside.onnx", external_data_from=1000) == ("beside.onnx.data",)

    assert model.SerializeToString(deterministic=True) == before
    np.testing.assert_array_equal(run(tmp_path / "beside.onnx"), run(tmp_path / "inside.onnx"))
    onnx.checker.check_model(str(tmp_path / "beside.onnx"))
    read, beside = load_graph(tmp_path / "beside.onnx")
    assert beside == [tmp_path / "beside.onnx.data"]
    assert (read.producer_name, len(read.opset_import), len(read.graph.value_info)) == ("a test", 2, 1)
    assert [tensor.name for tensor in read.graph.initializer] == ["table", "typed", "bias"]
    assert read.metadata_props[0].value == "b"


def test_only_large_tensors_leave_and_they_begin_at_pages(model, tmp_path):
    save_graph(model, tmp_path, "beside.onnx", external_data_from=1000)
    outline = onnx.load(tmp_path / "beside.onnx", load_external_data=False)
    entries = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in outline.graph.initializer
    }
    assert entries["bias"] == {}
    assert entries["table"] == {"location": "beside.onnx.data", "offset": "0", "length": "25600"}
    assert entries["typed"] == {"location": "beside.onnx.data", "offset": "28672", "length": "8192"}
    assert load_graph(tmp_path / "beside.onnx")[1] == [tmp_path / "beside.onnx.data"]


def test_weight_bytes_counts_raw_and_typed(model):
    assert weight_bytes(model) == pytest.approx(100 * 64 * 4 + 64 * 32 * 4 + 32 * 4, rel=0.01)
