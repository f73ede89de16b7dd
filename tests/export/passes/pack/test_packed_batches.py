"""The pack pass: pairs of any lengths share a batch, and each gets exactly the score it gets alone."""

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
from crossrank.export.passes.int8.attention import drop_mask, split_attention
from crossrank.export.passes.int8.quantize import Int8Options, quantize_int8
from crossrank.export.passes.pack.packed_batches import pack_batches
from crossrank.export.passes.prune.last_layer import prune_last_layer
from crossrank.models.manifest import PACKED_ROWS, Architecture

LAYERS = 3
PACKED = ("bert", "roberta", "xlm-roberta", "distilbert", "electra")
CALIBRATION = (5, 9, 16, 24, 33, 40, MAX_LENGTH) * 3


@pytest.fixture(scope="module")
def graphs(raw_graph):
    """A function `(family, kind) -> graph for pairs of one length`, in float32 or int8."""
    made = {}

    def get(family, kind="int8"):
        if (family, kind) not in made:
            architecture = Architecture(model_type=family, num_attention_heads=4, hidden_size=64)
            pruned = prune_last_layer(raw_graph(family, layers=LAYERS)).model
            fused = fuse(pruned, architecture=architecture, provider="cpu").model
            if kind == "int8":
                pairs = [make_feeds(fused, [length], seed=seed) for seed, length in enumerate(CALIBRATION)]
                options = Int8Options(min_kendall_tau=-1)
                made[family, kind] = quantize_int8(fused, calibration=pairs, options=options).model
            else:
                made[family, kind] = drop_mask(split_attention(fused))
        return made[family, kind]

    return get


def random_pair(session, length, seed):
    """One pair without padding, for every input but the mask."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for item in session.get_inputs():
        dtype = np.int32 if item.type == "tensor(int32)" else np.int64
        if item.name == "input_ids":
            feeds[item.name] = rng.integers(LOWEST_ID, HIGHEST_ID, (1, length)).astype(dtype)
        elif item.name != "attention_mask":
            feeds[item.name] = (np.arange(length) >= length // 2).astype(dtype)[None]
    return feeds


def together(pairs, pad):
    """Right-padded rows, and their mask. Padding is filled with `pad`, which must not matter."""
    longest = max(pair["input_ids"].shape[1] for pair in pairs)

    def padded(name, value):
        rows = [np.pad(pair[name][0], (0, longest - pair[name].shape[1]), constant_values=value) for pair in pairs]
        return np.stack(rows)

    masks = [np.arange(longest) < pair["input_ids"].shape[1] for pair in pairs]
    feeds = {name: padded(name, pad if name == "input_ids" else 0) for name in pairs[0]}
    return feeds | {"attention_mask": np.stack(masks).astype(pairs[0]["input_ids"].dtype)}


@pytest.fixture(scope="module")
def both(graphs):
    """A function that gives a session of the graph for one length and one of the packed graph."""
    made = {}

    def get(family, kind="int8"):
        if (family, kind) not in made:
            model = graphs(family, kind)
            made[family, kind] = session_of(model), session_of(pack_batches(model).model)
        return made[family, kind]

    return get


@pytest.mark.parametrize("kind", ["int8", "float"])
@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("lengths", [(9,), (3, 3), (7, 30, 12), tuple(range(4, 4 + PACKED_ROWS)), (MAX_LENGTH, 3, 17)])
def test_every_pair_scores_bitwise_as_alone_in_the_graph_for_one_length(family, kind, lengths, both):
    alone, packed = both(family, kind)
    pairs = [random_pair(alone, length, seed) for seed, length in enumerate(lengths)]
    expected = np.concatenate([alone.run(["logits"], pair)[0] for pair in pairs])
    scores = packed.run(["logits"], together(pairs, pad=1))[0]
    if kind == "int8":
        np.testing.assert_array_equal(scores, expected)
    else:  # a float32 product of few rows may take another routine
        np.testing.assert_allclose(scores, expected, atol=1e-5)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_no_other_pair_order_or_padding_changes_a_bit(data, both):
    alone, packed = both("bert")
    lengths = data.draw(st.lists(st.integers(3, MAX_LENGTH), min_size=1, max_size=PACKED_ROWS))
    pairs = [random_pair(alone, length, seed) for seed, length in enumerate(lengths)]
    order = data.draw(st.permutations(range(len(pairs))))
    scores = packed.run(["logits"], together([pairs[index] for index in order], pad=data.draw(st.integers(0, 5))))[0]
    for index, row in zip(order, scores, strict=True):
        np.testing.assert_array_equal(row[None], alone.run(["logits"], pairs[index])[0])


@pytest.mark.parametrize("family", PACKED)
def test_each_attention_exists_for_pairs_of_one_length_and_once_per_slot(family, graphs):
    before = graphs(family)
    result = pack_batches(before)
    assert result.record.changed
    counts = count_operators(result.model.graph)
    assert counts["If"] == LAYERS
    assert counts["MultiHeadAttention"] == (1 + PACKED_ROWS) * (LAYERS - 1)
    for operator in ("MatMulIntegerToFloat", "LayerNormalization", "QuantizeLinear", "BiasGelu"):
        assert counts[operator] == count_operators(before.graph)[operator], f"{operator} works on all tokens at once"
    assert [item.name for item in result.model.graph.input][:2] == ["input_ids", "attention_mask"]
    onnx.checker.check_model(result.model)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(PACKED)))
def test_a_graph_without_fused_attention_nodes_is_returned_unchanged(family, graphs):
    model = graphs(family)
    result = pack_batches(model)
    assert result.model is model
    assert not result.record.changed
    assert "attention" in result.record.detail


def test_the_input_is_not_changed_and_the_same_input_gives_the_same_bytes(graphs):
    model = graphs("bert")
    before = model.SerializeToString(deterministic=True)
    first, second = (pack_batches(model).model.SerializeToString(deterministic=True) for _ in range(2))
    assert model.SerializeToString(deterministic=True) == before
    assert first == second != before


def test_more_pairs_than_slots_share_a_batch_only_if_they_have_one_length(both):
    alone, packed = both("bert")
    pairs = [random_pair(alone, 6, seed) for seed in range(2 * PACKED_ROWS + 1)]
    expected = np.concatenate([alone.run(["logits"], pair)[0] for pair in pairs])
    np.testing.assert_array_equal(packed.run(["logits"], together(pairs, pad=0))[0], expected)
    with pytest.raises(Exception, match="split"):  # and no wrong score
        packed.run(["logits"], together([*pairs, random_pair(alone, 7, seed=0)], pad=0))


def edited(model, edit):
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    edit(changed.graph)
    return changed


def attention_of(graph):
    return next(node for node in graph.node if node.op_type == "MultiHeadAttention")


def insert_after_attention(graph, make_nodes, **constants):
    """Insert nodes after the first attention: `make_nodes(its output, the tensor its readers read)`."""
    node = attention_of(graph)
    output = node.output[0]
    node.output[0] = f"{output}/before"
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    index = [item.name for item in graph.node].index(node.name) + 1
    for offset, made in enumerate(make_nodes(node.output[0], output)):
        graph.node.insert(index + offset, made)


def mixes_tokens(graph):
    """A running sum along the sequence."""
    insert_after_attention(
        graph,
        lambda before, after: [helper.make_node("CumSum", [before, "axis"], [after], name="sum")],
        axis=np.asarray(1, np.int64),
    )


def adds_a_constant_with_a_sequence_axis(graph):
    """An addend per position, which packed tokens have lost; its values do not matter."""
    insert_after_attention(
        graph,
        lambda before, after: [helper.make_node("Add", [before, "by_position"], [after], name="positions")],
        by_position=np.ones((1, 1, 64), np.float32),
    )


def reads_ids_again(graph):
    """Token ids are read after the point where padding is dropped."""
    insert_after_attention(
        graph,
        lambda before, after: [
            helper.make_node("Cast", ["input_ids"], ["ids/float"], name="cast", to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["ids/float", "axis"], ["ids/wide"], name="wide"),
            helper.make_node("Add", [before, "ids/wide"], [after], name="ids"),
        ],
        axis=np.asarray([2], np.int64),
    )


@pytest.mark.parametrize("edit", [mixes_tokens, adds_a_constant_with_a_sequence_axis, reads_ids_again])
def test_a_graph_with_a_node_not_known_to_work_token_by_token_is_returned_unchanged(edit, graphs):
    model = edited(graphs("bert"), edit)
    session_of(model)  # the graph itself is valid
    result = pack_batches(model)
    assert result.model is model
    assert not result.record.changed


def test_a_graph_that_reads_its_mask_is_returned_unchanged(raw_graph):
    result = pack_batches(raw_graph("bert", layers=LAYERS))
    assert not result.record.changed
    assert "mask" in result.record.detail
