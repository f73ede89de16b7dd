"""`crossrank.compat.CrossEncoder` by itself: scores are those of transformers, everything else as in its promises.

Its options are in `test_cross_encoder_options.py`, and what sentence-transformers 6.2 does in the same calls in
`test_beside_sentence_transformers.py`.
"""

from __future__ import annotations

import logging
import pickle
import sys
import types
import warnings

import numpy as np
import pytest
from cross_encoder_calls import LONG, MANY, PAIRS, REFUSED_BY_BOTH, REFUSED_HERE
from tiny_artifacts import reference_logits, save_graphs, write_artifact
from tiny_checkpoints import MAX_LENGTH

from crossrank.compat import CrossEncoder, identity, sigmoid
from crossrank.errors import ClosedError, CrossrankError, InvalidInputError

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def two_labels(tiny_checkpoint, raw_graph, tmp_path_factory):
    """A function: artifact of a model with two labels, the first of which means relevant; by its activation."""
    graphs = tmp_path_factory.mktemp("graphs")
    save_graphs(raw_graph("bert", num_labels=2), graphs)

    def get(activation):
        out = tmp_path_factory.mktemp("compat") / f"two-{activation}"
        checkpoint = tiny_checkpoint("bert", num_labels=2)
        keys = {"num_labels": 2, "positive_label": 0, "activation": activation}
        return write_artifact(out, checkpoint, graphs, precisions=["fp32"], **keys), graphs / "fp32.onnx", checkpoint

    return get


def logits_of_transformers(checkpoint, pairs):
    """Logits by the Auto classes, each pair cut as sentence-transformers cuts it; float32 (n, labels)."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    network = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    options = {"truncation": "longest_first", "max_length": MAX_LENGTH, "return_tensors": "pt"}
    with torch.inference_mode():
        rows = [network(**tokenizer([query], [document], **options)).logits[0] for query, document in pairs]
    return torch.stack(rows)


def test_a_checkpoint_folder_scores_as_in_transformers(tiny_checkpoint):
    checkpoint = tiny_checkpoint("roberta")
    logits = logits_of_transformers(checkpoint, MANY)[:, 0]
    with CrossEncoder(checkpoint, device="cpu") as model:
        assert model.precision == "fp32"
        activations = ((None, logits.sigmoid()), (torch.nn.Identity(), logits), (torch.tanh, logits.tanh()))
        for activation, expected in activations:
            scores = model.predict(MANY, activation_fn=activation)
            assert scores.dtype == np.float32
            assert np.std(expected.numpy()) > 0.05
            np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4, rtol=0)


def test_one_pair_gives_a_number_and_none_gives_an_empty_array(model):
    alone = model.predict(PAIRS[0])
    assert type(alone) is np.float32
    np.testing.assert_allclose(model.predict(PAIRS)[0], alone, atol=1e-5)
    assert model.predict(list(PAIRS[0])) == model.predict(np.array(PAIRS[0])) == alone
    assert model.predict(PAIRS[:1]).shape == (1,)
    for none in ([], (), np.array([], dtype=str)):
        empty = model.predict(none)
        assert (empty.shape, empty.dtype) == ((0,), np.float64)
    assert model.predict([], convert_to_numpy=False) == []
    assert model.predict([], convert_to_tensor=True).shape == (0,)
    assert model.rank("who", []) == []


def test_tensors_hold_the_same_scores(model):
    scores = model.predict(MANY)
    tensor = model.predict(MANY, convert_to_tensor=True)
    assert (tensor.dtype, tensor.device.type) == (torch.float32, "cpu")
    np.testing.assert_array_equal(tensor.numpy(), scores)
    several = model.predict(MANY, convert_to_numpy=False)
    assert [one.item() for one in several] == scores.tolist()
    assert model.predict(MANY[0], convert_to_tensor=True).shape == ()


def test_batch_size_changes_no_score_and_is_what_a_function_sees(model):
    seen = []

    def doubled(column):
        seen.append(tuple(column.shape))
        return column * 2

    scores = model.predict(MANY, activation_fn=doubled, batch_size=10)
    np.testing.assert_array_equal(scores, 2 * model.predict(MANY, activation_fn=identity, batch_size=3))
    assert seen == [(10, 1), (10, 1), (len(MANY) - 20, 1)]


def test_rank_orders_by_score_and_keeps_the_order_of_equals(model):
    documents = [document for _, document in MANY] + ["cold water", "cold water"]
    scores = model.predict([("who reads", document) for document in documents])
    results = model.rank("who reads", documents, return_documents=True)
    assert [result["corpus_id"] for result in results] == np.argsort(-scores, kind="stable").tolist()
    assert all(result["text"] is documents[result["corpus_id"]] for result in results)
    assert [result["score"] for result in results] == sorted(scores.tolist(), reverse=True)
    assert model.rank("who reads", iter(documents), top_k=3) == [
        {key: result[key] for key in ("corpus_id", "score")} for result in results[:3]
    ]
    worst_first = model.rank("who reads", documents, activation_fn=lambda logits: -logits)
    assert worst_first[0]["score"] == -model.rank("who reads", documents, activation_fn=identity)[-1]["score"]
    with pytest.raises(InvalidInputError, match="2 numbers"):
        model.rank("who reads", documents, activation_fn=lambda logits: torch.cat([logits, logits], dim=1))


def test_two_labels_give_both_where_the_activation_is_stated(two_labels):
    artifact, graph, checkpoint = two_labels("sigmoid")
    pairs = MANY[:-2]  # which are cut alike by both rules
    logits = torch.from_numpy(reference_logits(graph, checkpoint, pairs))
    softmax = torch.softmax(logits, dim=1)
    with CrossEncoder(artifact, device="cpu") as model:
        assert model.num_labels == 2
        for options, expected in (
            ({"activation_fn": torch.nn.Identity()}, logits),
            ({"activation_fn": identity}, logits),
            ({"activation_fn": sigmoid}, logits.sigmoid()),
            ({"activation_fn": torch.nn.Softmax(dim=-1)}, softmax),
            ({"activation_fn": identity, "apply_softmax": True, "batch_size": 7, "show_progress_bar": True}, softmax),
            ({"activation_fn": torch.nn.Softmax(dim=1), "apply_softmax": True}, torch.softmax(softmax, dim=1)),
            ({"activation_fn": lambda rows: rows.argmax(dim=1)}, logits.argmax(dim=1)),
        ):
            np.testing.assert_allclose(model.predict(pairs, **options), expected.numpy(), atol=1e-5)
            assert model.predict(pairs[0], **options).shape == expected.shape[1:]
        assert model.activation_fn is None
        for options in ({}, {"apply_softmax": True}):
            with pytest.raises(InvalidInputError, match="state activation_fn"):
                model.predict(pairs, **options)
        with pytest.raises(InvalidInputError, match="one expected"):
            model.rank("who", ["a"])
        model.activation_fn = identity
        np.testing.assert_allclose(model.predict(pairs), logits.numpy(), atol=1e-5)
    # A checkpoint that states identity leaves no doubt.
    with CrossEncoder(two_labels("identity")[0], device="cpu") as model:
        np.testing.assert_allclose(model.predict(pairs), logits.numpy(), atol=1e-5)
        np.testing.assert_allclose(model.predict(pairs, apply_softmax=True), softmax.numpy(), atol=1e-5)


@pytest.mark.parametrize("call", [*REFUSED_BY_BOTH, *REFUSED_HERE])
def test_a_mistake_is_refused_and_the_next_call_goes_on(call, model):
    with pytest.raises((InvalidInputError, TypeError)):
        (REFUSED_BY_BOTH | REFUSED_HERE)[call](model)
    assert model.predict(PAIRS).shape == (3,)


@pytest.mark.parametrize("inputs", [[{"query": "a"}], [{"query": "a"}, {"query": "b"}]])
def test_an_item_that_is_no_pair_is_named(model, inputs):
    with pytest.raises(InvalidInputError, match=r"^inputs\[0\] is a dict"):
        model.predict(inputs)


def test_a_progress_bar_counts_batches_where_it_is_asked_for(model, capfd, caplog):
    scores = model.predict(MANY)
    assert "Batches" not in capfd.readouterr().err
    np.testing.assert_allclose(model.predict(MANY, batch_size=10, show_progress_bar=True), scores, atol=1e-5)
    shown = capfd.readouterr().err
    assert "Batches" in shown
    assert "3/3" in shown
    with caplog.at_level(logging.INFO, logger="crossrank"):
        model.rank("who", ["a", "b"])
        assert "1/1" in capfd.readouterr().err
        model.rank("who", ["a", "b"], show_progress_bar=False)
        assert "Batches" not in capfd.readouterr().err


def test_what_is_too_long_is_cut_without_a_warning(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict([(LONG, LONG), ("who", LONG)])
        model.rank(LONG, [LONG])


def test_a_column_of_the_datasets_library_is_a_list(model, monkeypatch):
    class Column:
        """Neither list nor tuple, as there."""

        def __len__(self):
            return len(PAIRS)

        def __getitem__(self, index):
            return PAIRS[index]

        def __iter__(self):
            return iter(PAIRS)

    with pytest.raises(InvalidInputError, match="a Column"):
        model.predict(Column())
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(Column=Column))
    np.testing.assert_array_equal(model.predict(Column()), model.predict(PAIRS))


def test_the_callers_data_stays_as_it_is(model):
    pairs = [list(pair) for pair in MANY]
    documents = [document for _, document in MANY]
    before = pickle.dumps((pairs, documents))
    model.predict(pairs, prompt="find: ")
    model.rank("who", documents, top_k=2, return_documents=True)
    assert pickle.dumps((pairs, documents)) == before


def test_it_pickles_and_closes(folder, model):
    with CrossEncoder(folder, device="cpu", activation_fn=torch.nn.Tanh(), prompts={"a": "find: "}) as original:
        expected = original.predict(MANY, prompt_name="a")
        copy = pickle.loads(pickle.dumps(original))
    np.testing.assert_allclose(copy.predict(MANY, prompt_name="a"), expected, atol=1e-5)
    copy.close()
    with pytest.raises(ClosedError):
        copy.predict(MANY)
    with pytest.raises(ClosedError):
        copy.predict([])


def test_every_error_of_a_mistake_is_a_crossrank_error_and_a_value_error(model):
    with pytest.raises(CrossrankError) as caught:
        model.predict([("a", "b"), ("a", None)])
    assert isinstance(caught.value, ValueError)
    assert "inputs[1]" in str(caught.value)
