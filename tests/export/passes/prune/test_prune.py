"""The pruned graph gives the same logits and computes less."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graph_runs import make_feeds, run, session_of
from onnx import helper, numpy_helper
from tiny_checkpoints import FAMILIES, MAX_LENGTH

from crossrank.export.graph.shapes import BATCH, SEQUENCE, probe_shapes
from crossrank.export.graph.tools import GraphView, attributes
from crossrank.export.passes.prune.last_layer import prune_last_layer
from crossrank.export.passes.prune.macs import multiply_accumulates

BATCHES = ([9], [MAX_LENGTH], [1], [17, 17], [33, 5, 20, 33], [MAX_LENGTH, 2])


def rows_of_projections(model: onnx.ModelProto) -> list[bool]:
    """For every product with a weight, whether it has one row per token."""
    view, shapes = GraphView(model.graph), probe_shapes(model)
    return [
        SEQUENCE in shapes[node.output[0]]
        for node in model.graph.node
        if node.op_type == "MatMul" and view.is_constant(node.input[1])
    ]


@pytest.mark.parametrize(("layers", "num_labels", "exporter"), [(2, 1, "own"), (3, 2, "own"), (2, 1, "optimum")])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_stay_the_same(family, num_labels, layers, exporter, raw_graph):
    model = raw_graph(family, num_labels=num_labels, layers=layers, exporter=exporter)
    result = prune_last_layer(model)

    assert result.record.changed
    before, after = session_of(model), session_of(result.model)
    logits = []
    for seed, lengths in enumerate(BATCHES):
        feeds = make_feeds(model, lengths, seed=seed)
        expected = before.run(["logits"], feeds)[0]
        np.testing.assert_allclose(after.run(["logits"], feeds)[0], expected, rtol=0, atol=1e-5)
        logits.append(expected[:, 0])
    assert np.std(np.concatenate(logits)) > 0.1  # logits differ from pair to pair


@pytest.mark.parametrize("family", FAMILIES)
def test_no_projection_of_the_last_layer_reads_all_tokens(family, raw_graph):
    layers = 3
    model = raw_graph(family, layers=layers)
    pruned = prune_last_layer(model).model

    # Queries, keys, values, attention output and two of feed-forward; ModernBERT fuses the first three into one.
    a_layer = 4 if family == "modernbert" else 6
    before_layers = {"electra": 1}.get(family, 0)
    # Keys that are rotated or compared with relative positions are still projected; all else is absorbed.
    keys_left = {"modernbert": 1, "deberta-v2": 1}.get(family, 0)
    assert sum(rows_of_projections(model)) == layers * a_layer + before_layers
    assert sum(rows_of_projections(pruned)) == (layers - 1) * a_layer + before_layers + keys_left


@pytest.mark.parametrize("family", FAMILIES)
def test_the_product_that_sums_over_all_tokens_has_more_rows_than_columns(family, raw_graph):
    # onnxruntime divides the larger of the two among its threads; divided by columns, sums depend on the thread count.
    model = prune_last_layer(raw_graph(family)).model
    shapes = probe_shapes(model)
    sums = [
        node
        for node in model.graph.node
        if node.op_type == "MatMul"
        and len(shapes.get(node.input[0], ())) == 3
        and shapes[node.input[0]][-1] == SEQUENCE
        and shapes[node.input[0]][0] == BATCH
    ]
    assert len(sums) == 1
    rows, columns = shapes[sums[0].output[0]][-2:]
    assert (rows.factor, columns.factor) == (64, 4)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "distilbert", "electra"])
def test_removes_the_operations_it_reports(family, raw_graph):
    model = raw_graph(family)
    result = prune_last_layer(model)

    hidden, intermediate, tokens = 64, 128, 128
    heads = 4
    for_each_token = tokens * (4 * hidden * hidden + 2 * hidden * intermediate + 2 * tokens * hidden)
    # Queries and attention output take one hidden**2 each now, keys and values two, because each row is passed twice;
    # two products sum over tokens.
    for_one_token = 6 * hidden * hidden + 2 * hidden * intermediate + 2 * heads * tokens * hidden
    before = multiply_accumulates(model, sequence=tokens)
    removed = for_each_token - for_one_token
    assert before - multiply_accumulates(result.model, sequence=tokens) == removed
    assert f"{removed} of {before}" in result.record.detail


@pytest.mark.parametrize("family", FAMILIES)
def test_the_input_graph_is_not_changed_and_the_result_is_deterministic(family, raw_graph):
    model = raw_graph(family)
    before = model.SerializeToString(deterministic=True)

    first = prune_last_layer(model).model.SerializeToString(deterministic=True)
    second = prune_last_layer(model).model.SerializeToString(deterministic=True)

    assert first == second
    assert model.SerializeToString(deterministic=True) == before


def test_single_layer_is_pruned_too(raw_graph):
    model = raw_graph("bert", layers=1)
    pruned = prune_last_layer(model).model

    feeds = make_feeds(model, [12, 30])
    np.testing.assert_allclose(run(pruned, feeds), run(model, feeds), rtol=0, atol=1e-5)
    assert sum(rows_of_projections(pruned)) == 0


def test_a_graph_with_mean_pooling_is_returned_unchanged(raw_graph):
    model = raw_graph("modernbert", classifier_pooling="mean")
    result = prune_last_layer(model)

    assert not result.record.changed
    assert "token 0" in result.record.detail
    assert result.model is model


def test_pruning_twice_changes_nothing_more(raw_graph):
    once = prune_last_layer(raw_graph("bert")).model
    twice = prune_last_layer(once)

    assert not twice.record.changed
    assert twice.model is once


def test_an_operator_without_a_rule_in_the_last_layer_is_named_and_the_graph_is_returned_unchanged(raw_graph):
    model = raw_graph("bert")
    softmax = [node for node in model.graph.node if node.op_type == "Softmax"][-1]
    # An operator that the pass has no rule for.
    softmax.op_type = "Hardmax"
    result = prune_last_layer(model)

    assert not result.record.changed
    assert "Hardmax" in result.record.detail
    assert result.model is model


def test_a_selection_by_slice_and_squeeze_is_recognised(raw_graph):
    model = raw_graph("roberta")
    [gather] = [node for node in model.graph.node if node.op_type == "Gather" and attributes(node).get("axis") == 1]
    index = list(model.graph.node).index(gather)
    hidden, selected = gather.input[0], gather.output[0]
    for name, value in (("start", 0), ("end", 1), ("axis", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray([value]), name))
    model.graph.node.remove(gather)
    model.graph.node.insert(index, helper.make_node("Squeeze", ["one", "axis"], [selected]))
    model.graph.node.insert(index, helper.make_node("Slice", [hidden, "start", "end", "axis"], ["one"]))

    result = prune_last_layer(model)

    assert result.record.changed
    feeds = make_feeds(model, [25, 8])
    np.testing.assert_allclose(run(result.model, feeds), run(model, feeds), rtol=0, atol=1e-5)


def test_head_that_reads_other_tokens_too_keeps_the_layer(raw_graph):
    model = raw_graph("bert")
    final = [node for node in model.graph.node if node.op_type == "LayerNormalization"][-1]
    model.graph.output.append(helper.make_tensor_value_info(final.output[0], 1, ["b", "s", 64]))

    result = prune_last_layer(model)

    assert not result.record.changed
    assert result.model is model
