"""Graphs in float16 have half the size, stay close to float32, and keep positions exact."""

from __future__ import annotations

import numpy as np
import pytest
from export_cases import HAS_OPTIMUM
from graph_runs import make_feeds, run
from onnx import TensorProto
from tiny_checkpoints import FAMILIES, MAX_LENGTH

from crossrank.export.graph.tools import LARGE_BYTES, GraphView, bytes_of
from crossrank.export.passes.fp16.to_fp16 import to_fp16
from crossrank.export.passes.fuse.fusions import fuse
from crossrank.export.passes.prune.last_layer import prune_last_layer
from crossrank.models.manifest import Architecture

LENGTHS = ([9], [MAX_LENGTH, 2], [33, 5, 20, 33], [60, 44, 31, 17] * 4)
# ModernBERT adds to its residual stream without a norm in between; PyTorch's float16 is as far off.
BOUNDS = {"modernbert": 6e-2}


@pytest.fixture(scope="module")
def fused(raw_graph):
    made = {}

    def get(family, provider="cuda"):
        if (family, provider) not in made:
            architecture = Architecture(model_type=family, num_attention_heads=4, hidden_size=64)
            pruned = prune_last_layer(raw_graph(family, layers=3)).model
            made[family, provider] = fuse(pruned, architecture=architecture, provider=provider).model
        return made[family, provider]

    return get


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
@pytest.mark.parametrize("family", FAMILIES)
def test_runs_on_the_cpu_provider_close_to_float32(family, provider, fused):
    model = fused(family, provider)
    fp16_model = to_fp16(model).model

    for lengths in LENGTHS:
        expected = run(model, make_feeds(model, lengths))
        logits = run(fp16_model, make_feeds(fp16_model, lengths))
        assert logits.dtype == np.float32
        assert np.all(np.abs(logits - expected) <= BOUNDS.get(family, 3e-2) * np.maximum(1, np.abs(expected)))
        assert not np.array_equal(logits, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_weight_is_left_in_float32(family, fused):
    model = fused(family)
    fp16_model = to_fp16(model).model

    fp32_tensors = [tensor for tensor in fp16_model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    assert all(bytes_of(tensor) < LARGE_BYTES for tensor in fp32_tensors)
    assert len(fp16_model.SerializeToString()) < 0.62 * len(model.SerializeToString())


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_are_float32_and_inputs_integers(family, fused):
    fp16_model = to_fp16(fused(family)).model

    assert [value.type.tensor_type.elem_type for value in fp16_model.graph.output] == [TensorProto.FLOAT]
    kinds = {value.type.tensor_type.elem_type for value in fp16_model.graph.input}
    assert kinds <= {TensorProto.INT32, TensorProto.INT64}
    assert [value.name for value in fp16_model.graph.input] == [value.name for value in fused(family).graph.input]


def test_an_embedding_node_that_reads_int32_gets_it_without_a_cast(fused):
    # Of torch's exporter only DistilBERT's graph gets the node.
    fp16_model = to_fp16(fused("bert" if HAS_OPTIMUM else "distilbert")).model
    view = GraphView(fp16_model.graph)

    assert {value.type.tensor_type.elem_type for value in fp16_model.graph.input} == {TensorProto.INT32}
    [embedding] = [node for node in fp16_model.graph.node if node.op_type == "EmbedLayerNormalization"]
    assert set(embedding.input) >= view.inputs


def test_angles_of_far_positions_stay_exact(raw_graph):
    """In float16, positions above 2048 are rounded to even numbers and their angles are off by a radian."""
    length = 4099
    model = raw_graph("modernbert", layers=2, max_position_embeddings=8192)
    fp16_model = to_fp16(prune_last_layer(model).model).model

    [expected], [logit] = (run(graph, make_feeds(graph, [length]))[0] for graph in (model, fp16_model))
    np.testing.assert_allclose(logit, expected, rtol=0, atol=BOUNDS["modernbert"])


def test_nothing_is_rounded_between_nodes_kept_in_float32(fused):
    model = fused("bert")
    fp16_model = to_fp16(model, keep_fp32=[node.name for node in model.graph.node]).model

    feeds = make_feeds(model, [25, 8])
    np.testing.assert_array_equal(run(fp16_model, make_feeds(fp16_model, [25, 8])), run(model, feeds))


def test_named_nodes_stay_in_float32(fused):
    model = fused("bert")
    norms = [node.name for node in model.graph.node if node.op_type == "SkipLayerNormalization"]
    fp16_model = to_fp16(model, keep_fp32=norms).model

    view = GraphView(fp16_model.graph)
    fp32_nodes = [node for node in fp16_model.graph.node if node.name in norms]
    assert len(fp32_nodes) == len(norms)
    for node in fp32_nodes:
        gamma = view.constant(node.input[2])
        assert gamma is None or gamma.dtype == np.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_the_input_graph_is_not_changed_and_the_result_is_deterministic(family, fused):
    model = fused(family)
    before = model.SerializeToString(deterministic=True)

    first = to_fp16(model).model.SerializeToString(deterministic=True)
    second = to_fp16(model).model.SerializeToString(deterministic=True)

    assert first == second
    assert model.SerializeToString(deterministic=True) == before
