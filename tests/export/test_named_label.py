"""Heads of several labels, one of which is named: its softmax probability is the score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_cases import transformers_logits, write_pairs
from onnx import TensorProto, helper
from tiny_checkpoints import MAX_LENGTH, make_pairs

from crossrank import Reranker
from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import InvalidInputError, UnsupportedCheckpointError
from crossrank.export import export, import_onnx
from crossrank.export.checkpoint.checkpoint import read_checkpoint
from crossrank.models.artifact import Artifact
from crossrank.models.embedded import embedded_artifact

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

LABELS = ("contradiction", "entailment", "neutral")
PAIRS = [*make_pairs(24, seed=11), ("the river", "cold water " * 60), ("a", "")]


@pytest.fixture(scope="module")
def nli(tiny_checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nli") / "checkpoint"
    shutil.copytree(tiny_checkpoint("roberta", num_labels=3), folder)
    change(folder, id2label=dict(enumerate(LABELS)), label2id={name: index for index, name in enumerate(LABELS)})
    return folder


@pytest.fixture(scope="module")
def artifact(nli, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("named")
    report = export(
        nli,
        folder / "artifact",
        positive_label="entailment",
        verification_pairs=write_pairs(folder / "pairs.jsonl"),
        # Random weights rank at random, so eight bits move more than they do in a trained model.
        min_kendall_tau=0.5,
    )
    return report.artifact


@pytest.fixture(scope="module")
def probabilities(nli) -> np.ndarray:
    """Of each label, (n, 3), by transformers alone."""
    weights = np.exp(transformers_logits(nli, PAIRS, max_length=MAX_LENGTH).astype(np.float64))
    return weights / weights.sum(axis=1, keepdims=True)


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def scores(folder: Path, **options: object) -> np.ndarray:
    with ArtifactReranker(folder, **({"provider": "cpu", "precision": "fp32"} | options)) as reranker:
        return reranker.score_pairs(PAIRS)


def test_the_score_is_the_softmax_probability_of_the_label(artifact, probabilities):
    expected = probabilities[:, 1]
    assert np.std(expected) > 0.05, "probabilities that hardly differ would prove nothing"
    np.testing.assert_allclose(scores(artifact), expected, atol=2e-5, rtol=0)
    np.testing.assert_allclose(scores(artifact, max_batch_tokens=1), expected, atol=2e-5, rtol=0)
    np.testing.assert_allclose(scores(artifact, precision="int8"), expected, atol=0.1, rtol=0)

    manifest = Artifact.open(artifact).manifest
    assert (manifest.num_labels, manifest.positive_label, manifest.activation) == (3, 1, "sigmoid")
    assert manifest.label_names == LABELS
    assert {graph.precision for graph in manifest.graphs} == {"fp32", "int8", "fp16"}


def test_the_logit_is_the_log_odds_of_the_label(artifact, probabilities):
    expected = np.log(probabilities[:, 1] / (1 - probabilities[:, 1]))
    np.testing.assert_allclose(scores(artifact, activation="identity"), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("stated", "index"), [("neutral", 2), ("Contradiction", 0), (1, 1), ("2", 2)])
def test_a_label_goes_by_its_name_or_its_index(stated, index, nli):
    assert read_checkpoint(nli, positive_label=stated).positive_label == index


@pytest.mark.parametrize("stated", ["entailed", "", -1, 3, "3", "9" * 5000, True])
def test_a_label_that_is_none_is_refused_with_those_there_are(stated, nli):
    with pytest.raises(InvalidInputError, match="0: 'contradiction', 1: 'entailment', 2: 'neutral'"):
        read_checkpoint(nli, positive_label=stated)


def test_without_a_name_the_option_is_named(nli):
    with pytest.raises(
        UnsupportedCheckpointError, match=r"3 labels .*'entailment'.*positive_label \(--positive-label\)"
    ):
        read_checkpoint(nli)


@pytest.mark.parametrize(
    ("configured", "activation", "note"),
    [
        ("torch.nn.modules.linear.Identity", "sigmoid", "leaves 3 logits"),
        ("torch.nn.modules.activation.Softmax", "sigmoid", None),
        (None, "sigmoid", "softmax probability of the positive label"),
    ],
)
def test_whatever_activation_it_names_the_score_is_a_probability(configured, activation, note, nli, tmp_path):
    folder = Path(shutil.copytree(nli, tmp_path / "copy"))
    change(folder, sentence_transformers={"activation_fn": configured} if configured else None)
    checkpoint = read_checkpoint(folder, positive_label="entailment")
    assert checkpoint.activation == activation
    assert note is None or any(note in said for said in checkpoint.notes)
    assert read_checkpoint(folder, positive_label="entailment", activation="identity").activation == "identity"


def test_labels_that_do_not_exclude_each_other_are_refused(nli, tmp_path):
    folder = Path(shutil.copytree(nli, tmp_path / "copy"))
    change(folder, sentence_transformers={"activation_fn": "torch.nn.modules.activation.Sigmoid"})
    with pytest.raises(UnsupportedCheckpointError, match="sigmoid of each of its 3 labels"):
        read_checkpoint(folder, positive_label="entailment")
    change(folder, sentence_transformers=None, problem_type="multi_label_classification")
    with pytest.raises(UnsupportedCheckpointError, match=r"3 labels .* are independent of each other"):
        read_checkpoint(folder, positive_label="entailment")


def test_an_artifact_is_of_one_label_and_says_so(artifact, probabilities):
    with Reranker(artifact, precision="fp32", positive_label="entailment") as reranker:
        np.testing.assert_allclose(reranker.score_pairs(PAIRS), probabilities[:, 1], atol=2e-5, rtol=0)
    for other in ("neutral", 0, "unheard of"):
        with pytest.raises(InvalidInputError, match=r"made for label 'entailment' of its labels \(contradiction, "):
            Reranker(artifact, precision="fp32", positive_label=other)
    with pytest.raises(InvalidInputError, match="made for label 0 of its labels"):
        Reranker(embedded_artifact("default"), positive_label="entailment")


def test_a_checkpoint_is_exported_once_for_each_label(nli, probabilities, tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSRANK_CACHE", str(tmp_path))
    made = []
    for label in ("entailment", "neutral", "entailment"):
        with Reranker(nli, precision="fp32", positive_label=label) as reranker:
            found = reranker.score_pairs(PAIRS)
            made.append(reranker.info().artifact)
        np.testing.assert_allclose(found, probabilities[:, LABELS.index(label)], atol=2e-5, rtol=0)
    assert made[0] == made[2] != made[1]


@pytest.mark.parametrize("softmax", [False, True])
def test_an_onnx_file_of_three_labels_is_scored_by_the_one_that_is_named(
    softmax, raw_graph, nli, probabilities, tmp_path
):
    model = raw_graph("roberta", num_labels=3)
    if softmax:
        source = model.graph.output[0].name
        model.graph.node.append(helper.make_node("Softmax", [source], ["probabilities"], axis=-1))
        del model.graph.output[:]
        kind = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
        model.graph.output.append(kind)
    onnx.save(model, tmp_path / "model.onnx")
    report = import_onnx(
        tmp_path / "model.onnx",
        nli,
        tmp_path / "artifact",
        precisions=["fp32"],
        positive_label="neutral",
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
    )
    np.testing.assert_allclose(scores(report.artifact), probabilities[:, 2], atol=2e-5, rtol=0)
