"""The audit finds values beyond float16's range, and keeping their nodes in float32 keeps them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graph_runs import make_feeds, run
from onnx import TensorProto, numpy_helper

from crossrank.export.graph.shapes import probe_types
from crossrank.export.passes.fp16.ranges import audit_ranges, nodes_out_of_range
from crossrank.export.passes.fp16.to_fp16 import to_fp16
from crossrank.export.passes.fuse.fusions import fuse
from crossrank.export.passes.prune.last_layer import prune_last_layer
from crossrank.models.manifest import Architecture


@pytest.fixture(scope="module")
def fused(raw_graph):
    architecture = Architecture(model_type="bert", num_attention_heads=4, hidden_size=64)
    return fuse(prune_last_layer(raw_graph("bert")).model, architecture=architecture, provider="cpu").model


def with_huge_feed_forward(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The first layer's feed-forward outputs reach 1e5 and more; the norm after it makes them small again."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    gelu = next(node for node in changed.graph.node if node.op_type == "BiasGelu")
    product = next(node for node in changed.graph.node if gelu.output[0] in node.input)
    weight = next(tensor for tensor in changed.graph.initializer if tensor.name == product.input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(5e4), weight.name))
    return changed, product.output[0]


def test_ordinary_graph_is_in_range_and_masked_scores_do_not_count(fused):
    ranges = audit_ranges(fused, [make_feeds(fused, [30, 9]), make_feeds(fused, [64])])

    assert 0.1 < max(ranges.tensors.values()) < 1000
    assert nodes_out_of_range(fused, ranges) == []


def test_ranges_are_the_largest_magnitudes(fused):
    feeds = [make_feeds(fused, [30, 9]), make_feeds(fused, [12], seed=1)]
    ranges = audit_ranges(fused, feeds)

    assert ranges.tensors["logits"] == pytest.approx(max(np.abs(run(fused, feed)).max() for feed in feeds))


def test_values_beyond_float16_stay_in_float32(fused):
    model, product = with_huge_feed_forward(fused)
    feeds = [make_feeds(model, [30, 9])]
    ranges = audit_ranges(model, feeds)
    names = nodes_out_of_range(model, ranges)
    fp16_model = to_fp16(model, keep_fp32=names).model

    assert ranges.tensors[product] > 65504
    types = probe_types(fp16_model)
    beyond = [name for name, magnitude in ranges.tensors.items() if magnitude > 65504]
    assert all(types[name] == TensorProto.FLOAT for name in beyond)
    assert set(types.values()) >= {TensorProto.FLOAT16}
    np.testing.assert_allclose(
        run(fp16_model, make_feeds(fp16_model, [30, 9])), run(model, feeds[0]), rtol=0, atol=3e-2
    )
