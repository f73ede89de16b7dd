"""The int8 pass: what it quantizes, that scores do not depend on the batch, that the ranking stays, that it repeats."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graph_runs import HIGHEST_ID, LOWEST_ID, make_feeds, session_of
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tiny_checkpoints import FAMILIES, MAX_LENGTH

from crossrank.export.graph.tools import count_operators
from crossrank.export.passes.fuse.fusions import fuse
from crossrank.export.passes.int8.quantize import Int8Options, quantize_int8
from crossrank.export.passes.prune.last_layer import prune_last_layer
from crossrank.export.verify.fidelity import kendall_tau
from crossrank.models.manifest import Architecture

LAYERS = 3
LENGTHS = (5, 9, 16, 17, 24, 33, 40, 51, MAX_LENGTH, 12, 7, 28)
UNBOUNDED = Int8Options(min_kendall_tau=-1)
FUSED = ("bert", "roberta", "xlm-roberta", "distilbert", "electra")


def pairs_of(model, *, seed=0, lengths=LENGTHS):
    return [make_feeds(model, [length], seed=seed + index) for index, length in enumerate(lengths)]


def calibration_of(model):
    """Enough pairs to measure the range of every channel; an export uses several hundred."""
    return pairs_of(model, lengths=LENGTHS * 4)


def run(session, feeds):
    names = {item.name for item in session.get_inputs()}
    return session.run(["logits"], {name: array for name, array in feeds.items() if name in names})[0]


def logits(model, pairs):
    session = session_of(model)
    return np.array([run(session, pair).ravel()[0] for pair in pairs])


@pytest.fixture(scope="module")
def prepared(raw_graph):
    """Float32 graph as the passes before leave it."""
    made = {}

    def get(family):
        if family not in made:
            architecture = Architecture(model_type=family, num_attention_heads=4, hidden_size=64)
            pruned = prune_last_layer(raw_graph(family, layers=LAYERS)).model
            made[family] = fuse(pruned, architecture=architecture, provider="cpu").model
        return made[family]

    return get


@pytest.fixture(scope="module")
def quantized(prepared):
    made = {}

    def get(family):
        if family not in made:
            model = prepared(family)
            made[family] = quantize_int8(model, calibration=calibration_of(model))
        return made[family]

    return get


@pytest.mark.parametrize("family", FAMILIES)
def test_products_are_integer_and_no_scale_is_computed_over_a_batch(family, prepared):
    model = prepared(family)
    result = quantize_int8(model, calibration=pairs_of(model), options=UNBOUNDED)
    before, after = count_operators(model.graph), count_operators(result.model.graph)

    assert result.record.changed
    assert before["Attention"] == (LAYERS - 1 if family in FUSED else 0)
    assert after["MultiHeadAttention"] == before["Attention"]
    assert after["QAttention"] == after["Attention"] == 0
    assert after["MatMulIntegerToFloat"] >= before["Gemm"] + LAYERS
    assert after["DynamicQuantizeLinear"] == 0
    onnx.checker.check_model(result.model)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ranking_stays_close_on_pairs_outside_the_calibration(family, prepared, quantized):
    model = prepared(family)
    # Of 24 pairs of the same model tau is anything from 0.87 to 0.99, by how the machine rounds while it calibrates.
    others = pairs_of(model, seed=1000, lengths=LENGTHS * 20)
    assert kendall_tau(logits(model, others), logits(quantized(family).model, others)) >= 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_the_input_is_not_changed_and_the_same_input_gives_the_same_bytes(family, prepared, quantized):
    model = prepared(family)
    before = model.SerializeToString(deterministic=True)
    again = quantize_int8(model, calibration=calibration_of(model))
    assert model.SerializeToString(deterministic=True) == before
    assert again.record == quantized(family).record
    assert again.model.SerializeToString(deterministic=True) == quantized(family).model.SerializeToString(
        deterministic=True
    )


@given(data=st.data())
@settings(max_examples=15)
def test_a_score_is_bitwise_the_same_in_any_order_and_on_one_to_four_threads(data, prepared, quantized):
    import onnxruntime

    model = quantized("bert").model
    pairs = pairs_of(prepared("bert"), seed=77)
    expected = logits(model, pairs)
    order = data.draw(st.permutations(range(len(pairs))))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = data.draw(st.integers(1, 4))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for index in order:
        assert run(session, pairs[index]).ravel()[0] == expected[index]


def batch_of(pairs):
    return {name: np.concatenate([pair[name] for pair in pairs]) for name in pairs[0]}


def random_pairs(model, length, count):
    """Pairs of one length whose tokens differ, unlike those of `make_feeds` of one seed."""
    rng = np.random.default_rng(length)
    pairs = [make_feeds(model, [length]) for _ in range(count)]
    for pair in pairs:
        pair["input_ids"] = rng.integers(LOWEST_ID, HIGHEST_ID, (1, length)).astype(pair["input_ids"].dtype)
    return pairs


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [3, 16, 17, 40])
def test_other_pairs_of_the_same_length_change_no_bit_of_a_score(family, length, prepared, quantized):
    model = quantized(family).model
    pairs = random_pairs(prepared(family), length, 7)
    alone = logits(model, pairs)
    for size in range(2, len(pairs) + 1):
        together = run(session_of(model), batch_of(pairs[:size])).reshape(size, -1)[:, 0]
        np.testing.assert_array_equal(together, alone[:size])


def test_scales_computed_over_a_batch_make_a_score_depend_on_the_other_pairs(prepared):
    dynamic = quantize_int8(prepared("bert")).model
    pairs = random_pairs(prepared("bert"), 20, 6)
    assert np.abs(run(session_of(dynamic), batch_of(pairs)).ravel() - logits(dynamic, pairs)).max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_has_no_mask_input_because_attention_would_ignore_it(family, prepared, quantized):
    assert "attention_mask" in [item.name for item in prepared(family).graph.input]
    assert "attention_mask" not in [item.name for item in quantized(family).model.graph.input]


def test_without_calibration_scales_are_computed_over_each_batch(prepared):
    model = prepared("bert")
    result = quantize_int8(model)
    assert "scales of each run" in result.record.detail
    assert count_operators(result.model.graph)["DynamicQuantizeLinear"] > 0
    pairs = pairs_of(model)
    assert kendall_tau(logits(model, pairs), logits(result.model, pairs)) > 0.8


def test_an_unreachable_bound_leaves_the_most_sensitive_matrices_in_float32_up_to_the_share(prepared):
    model = prepared("bert")
    pairs = pairs_of(model)
    options = Int8Options(min_kendall_tau=1.01, max_float_share=0.5)
    result = quantize_int8(model, calibration=pairs, options=options)
    free = quantize_int8(model, calibration=pairs)

    unbounded = count_operators(free.model.graph)["MatMulIntegerToFloat"]
    assert count_operators(result.model.graph)["MatMulIntegerToFloat"] < unbounded
    assert "most sensitive left in float32" in result.record.detail
    assert result.model.ByteSize() > free.model.ByteSize()
    errors = [np.mean((logits(graph, pairs) - logits(model, pairs)) ** 2) for graph in (free.model, result.model)]
    assert errors[1] < errors[0]


def foreign(*nodes, initializers, inputs=(("x", TensorProto.FLOAT, ["batch", 8]),), opset=17):
    graph = helper.make_graph(
        list(nodes),
        "foreign",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def test_a_graph_without_constant_matrices_is_returned_unchanged():
    pick = np.array([0, 1], np.int64)
    model = foreign(helper.make_node("Gather", ["x", "pick"], ["logits"], axis=1), initializers={"pick": pick})
    result = quantize_int8(model)
    assert result.model is model
    assert not result.record.changed


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_a_foreign_graph_with_shared_and_transposed_matrices_is_quantized(opset):
    rng = np.random.default_rng(0)
    shared, wide, narrow = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 8), (32, 8), (32, 2)))
    model = foreign(
        helper.make_node("MatMul", ["x", "shared"], ["one"]),
        helper.make_node("MatMul", ["one", "shared"], ["two"]),
        helper.make_node("Gemm", ["two", "wide"], ["three"], transB=1),
        helper.make_node("Relu", ["three"], ["four"]),
        helper.make_node("MatMul", ["four", "narrow"], ["five"]),
        helper.make_node("Add", ["bias", "five"], ["logits"]),
        initializers={"shared": shared, "wide": wide, "narrow": narrow, "bias": np.ones(2, np.float32)},
        opset=opset,
    )
    pairs = [{"x": rng.normal(size=(6, 8)).astype(np.float32)} for _ in range(20)]
    result = quantize_int8(model, calibration=pairs)

    counts = count_operators(result.model.graph)
    assert counts["MatMulIntegerToFloat"] == 4
    assert not {"shared", "wide", "narrow"} & {item.name for item in result.model.graph.initializer}
    expected = session_of(model).run(None, pairs[0])[0]
    logits = session_of(result.model).run(None, pairs[0])[0]
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def test_a_product_may_read_the_rows_of_a_table_directly():
    """As in DeBERTa-v2 with embeddings narrower than its layers: both would name a scale after the rows."""
    rng = np.random.default_rng(2)
    table, weight = rng.normal(size=(300, 8)).astype(np.float32), rng.normal(size=(8, 4)).astype(np.float32)
    model = foreign(
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weight"], ["logits"]),
        initializers={"table": table, "weight": weight},
        inputs=(("ids", TensorProto.INT64, ["batch"]),),
    )
    ids = np.arange(300)
    expected = session_of(model).run(None, {"ids": ids})[0]
    for calibration in ([{"ids": ids[start::20]} for start in range(20)], []):
        result = quantize_int8(model, calibration=calibration, options=UNBOUNDED)
        names = [name for node in result.model.graph.node for name in node.output]
        assert len(set(names)) == len(names)
        assert not set(names) & {item.name for item in result.model.graph.initializer}
        logits = session_of(result.model).run(None, {"ids": ids})[0]
        assert np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()


def test_rows_of_an_embedding_table_are_stored_in_eight_bits():
    rng = np.random.default_rng(1)
    table = rng.normal(size=(300, 2)).astype(np.float32)
    model = foreign(
        helper.make_node("Gather", ["table", "ids"], ["logits"]),
        initializers={"table": table},
        inputs=(("ids", TensorProto.INT64, ["batch"]),),
    )
    result = quantize_int8(model)
    stored = {item.name: numpy_helper.to_array(item) for item in result.model.graph.initializer}
    assert stored["table.int8"].dtype == np.int8
    assert "table" not in stored
    ids = np.array([0, 7, 299])
    np.testing.assert_allclose(session_of(result.model).run(None, {"ids": ids})[0], table[ids], atol=0.02)
    assert quantize_int8(model, options=Int8Options(embeddings=False)).model is model
