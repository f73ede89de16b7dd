"""Values beyond float16's range stay in float32, in a graph's tensors as well as inside fused operators."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import onnx
import pytest
from export_cases import write_pairs
from graph_runs import make_feeds, run, session_of
from onnx import TensorProto, numpy_helper
from tiny_checkpoints import FAMILIES

from crossrank.export import export
from crossrank.export.graph.shapes import probe_types
from crossrank.export.pass_lists import PassContext, convert_to_fp16
from crossrank.export.passes.fp16.audit import AUDIT_PAIRS, audit_for_float16
from crossrank.export.passes.fp16.ranges import BOUND, audit_ranges
from crossrank.export.passes.fuse.fusions import fuse
from crossrank.export.passes.prune.last_layer import prune_last_layer
from crossrank.models.artifact import Artifact
from crossrank.models.manifest import Architecture

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

ARCHITECTURE = Architecture(model_type="bert", num_attention_heads=4, hidden_size=64)


@pytest.fixture
def fused(raw_graph):
    """The tiny BERT as it is fused for CUDA; a new copy each time."""
    return fuse(prune_last_layer(raw_graph("bert", layers=3)).model, architecture=ARCHITECTURE, provider="cuda").model


def node_of(model: onnx.ModelProto, operator: str, index: int = 0) -> onnx.NodeProto:
    return [node for node in model.graph.node if node.op_type == operator][index]


def scale_weight(model: onnx.ModelProto, name: str, factor: float, columns: slice = slice(None)) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    value = numpy_helper.to_array(tensor).copy()
    value[..., columns] *= np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def feed_forward_weight(model: onnx.ModelProto) -> str:
    """The matrix whose product the first layer's last norm reads."""
    gelu = node_of(model, "BiasGelu")
    return next(node for node in model.graph.node if gelu.output[0] in node.input).input[1]


def feeds_of(model: onnx.ModelProto, lengths=(9, 30, 64)) -> list[dict[str, np.ndarray]]:
    return [make_feeds(model, [length], seed=length) for length in lengths]


def fp32_operators(model: onnx.ModelProto) -> list[str]:
    audit = audit_for_float16(model, feeds_of(model))
    return sorted(node.op_type for node in model.graph.node if node.name in audit.keep)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_ordinary_checkpoint_keeps_no_node_in_float32_for_its_range(family, exported_graph):
    detail = exported_graph(family, "fp16")[1]["fp16"].detail

    assert "; 0 nodes kept in float32 for their range" in detail
    assert 0.5 < float(re.search(r"largest activation ([\d.e+]+) \(", detail).group(1)) < 1000
    assert "over 3 pairs" in detail
    assert "not looked into" not in detail


def test_the_mean_square_inside_a_norm_counts(fused):
    """No tensor exceeds the bound, but the mean square of one does, which the kernel adds up in float16."""
    scale_weight(fused, feed_forward_weight(fused), 300)
    ranges = audit_ranges(fused, feeds_of(fused))

    assert 100 < max(ranges.tensors.values()) < BOUND
    assert fp32_operators(fused) == ["SkipLayerNormalization"]


def test_the_scores_inside_attention_count(fused):
    """Attention outputs a weighted mean of values, which stays small however large the scores are."""
    weight = node_of(fused, "Attention").input[1]
    scale_weight(fused, weight, 150, slice(0, 128))  # queries and keys of a hidden size of 64
    ranges = audit_ranges(fused, feeds_of(fused))

    assert max(ranges.tensors.values()) < 1000
    assert fp32_operators(fused) == ["Attention"]


def test_scores_are_measured_as_attention_computes_them(fused):
    """With one token there is one score: the product of its query and its key."""
    node = node_of(fused, "Attention")
    [feed] = feeds_of(fused, [1])
    watched = onnx.ModelProto()
    watched.CopyFrom(fused)
    watched.graph.output.append(onnx.ValueInfoProto(name=node.input[0]))
    [hidden] = session_of(watched).run([node.input[0]], feed)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in fused.graph.initializer}
    projected = hidden[0, 0] @ arrays[node.input[1]] + arrays[node.input[2]]
    queries, keys, _ = projected.reshape(3, 4, 16)
    scores = np.abs((queries * keys).sum(axis=1) / 4)

    without_bias = np.abs(hidden[0, 0] @ arrays[node.input[1]])
    expected = max(scores.max(), np.abs(projected).max(), without_bias.max())
    assert audit_ranges(fused, [feed]).inside[node.name] == pytest.approx(expected, rel=1e-4)


def test_a_weight_beyond_float16_stays_in_float32_unchanged(fused):
    name = feed_forward_weight(fused)
    tensor = next(tensor for tensor in fused.graph.initializer if tensor.name == name)
    value = numpy_helper.to_array(tensor).copy()
    value[5, 7] = 1e5
    tensor.CopyFrom(numpy_helper.from_array(value, name))
    fp16_model = convert_to_fp16(fused, PassContext(ARCHITECTURE)).model

    [product] = [node for node in fp16_model.graph.node if node.op_type == "MatMul" and name in node.input[1]]
    [stored] = [tensor for tensor in fp16_model.graph.initializer if tensor.name == product.input[1]]
    np.testing.assert_array_equal(numpy_helper.to_array(stored), value)


def test_without_pairs_the_record_says_that_ranges_were_not_measured(fused):
    record = convert_to_fp16(fused, PassContext(ARCHITECTURE)).record

    assert "ranges not audited" in record.detail
    assert "0 nodes kept in float32 for their range" in record.detail


def test_the_number_of_pairs_run_is_bounded_and_the_longest_is_among_them(fused):
    feeds = feeds_of(fused, [*range(2, 62), 64])
    seen = []

    class Feed(dict):
        def items(self):
            seen.append(self["input_ids"].size)
            return super().items()

    audit = audit_for_float16(fused, [Feed(feed) for feed in feeds])
    assert f"over {AUDIT_PAIRS} pairs" in audit.detail
    assert len(set(seen)) == len(seen) == AUDIT_PAIRS
    assert (min(seen), max(seen)) == (2, 64)


def test_the_graph_is_not_changed_and_the_figures_are_the_same_every_time(fused):
    before = fused.SerializeToString(deterministic=True)
    first, second = (audit_for_float16(fused, feeds_of(fused)) for _ in range(2))

    assert first == second
    assert fused.SerializeToString(deterministic=True) == before


def test_an_operator_with_unknown_internals_is_named(fused):
    node_of(fused, "Attention").attribute.append(onnx.helper.make_attribute("do_rotary", 0))
    assert "not looked into" not in audit_for_float16(fused, feeds_of(fused)).detail
    node = node_of(fused, "Attention")
    node.input.extend([""] * (6 - len(node.input)))
    zeros = numpy_helper.from_array(np.zeros((1, 1, 9, 9), np.float32), "attention bias")
    fused.graph.initializer.append(zeros)
    node.input[5] = zeros.name

    detail = audit_for_float16(fused, feeds_of(fused, [9])).detail
    assert f"not looked into: Attention {node.name}" in detail


def test_a_checkpoint_that_overflows_is_exported_with_those_operators_in_float32(tiny_checkpoint, tmp_path):
    """Feed-forward outputs reach 1e5, and the norm after them makes them small again."""
    from safetensors.numpy import load_file, save_file

    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint("bert"), checkpoint)
    weights = load_file(checkpoint / "model.safetensors")
    weights["bert.encoder.layer.0.output.dense.weight"] *= np.float32(5e4)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    export(
        checkpoint,
        tmp_path / "out",
        precisions=["fp32", "fp16"],
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
    )

    fp32, fp16 = Artifact.open(tmp_path / "out").manifest.graphs
    detail = {record.name: record.detail for record in fp16.passes}["fp16"]
    assert fp16.fidelity.max_abs_logit_difference < 3e-2
    count, named = re.search(r"(\d+) nodes kept in float32 for their range \(beyond 32752\): (.*)", detail).groups()
    assert int(count) >= 2
    assert "MatMul" in named
    assert "SkipLayerNormalization" in named
    fp16_model, fp32_model = (onnx.load(tmp_path / "out" / graph.file) for graph in (fp16, fp32))
    types = probe_types(fp16_model)
    feeds = feeds_of(fp32_model)
    ranges = audit_ranges(fp32_model, feeds)
    beyond = {name for name, magnitude in ranges.tensors.items() if magnitude > 65504}
    assert beyond
    assert all(types[name] == TensorProto.FLOAT for name in beyond & types.keys())
    assert sum(kind == TensorProto.FLOAT16 for kind in types.values()) > 10
    for feed in feeds:
        kinds = {value.name: value.type.tensor_type.elem_type for value in fp16_model.graph.input}
        narrow = {name: feed[name].astype(onnx.helper.tensor_dtype_to_np_dtype(kind)) for name, kind in kinds.items()}
        np.testing.assert_allclose(run(fp16_model, narrow), run(fp32_model, feed), rtol=0, atol=3e-2)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["graphs"][1]["passes"][-2]["name"] == "fp16"
