"""Every family, with one label and with two: exported, verified, and scoring like transformers."""

from __future__ import annotations

import numpy as np
import pytest
from export_cases import transformers_logits, write_pairs
from pretend_gpu import pretend_gpu
from tiny_checkpoints import FAMILIES, MAX_LENGTH, make_pairs

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.export import export
from crossrank.models.artifact import Artifact

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

WITH_SEGMENTS = {"bert", "electra"}


@pytest.mark.parametrize("num_labels", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_family_exports_and_scores_like_transformers(family, num_labels, tiny_checkpoint, tmp_path, monkeypatch):
    checkpoint = tiny_checkpoint(family, num_labels=num_labels)
    stated = None if num_labels == 1 else 0

    report = export(
        checkpoint,
        tmp_path / "artifact",
        positive_label=stated,
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
        # Random weights rank at random, so eight bits move more than they do in a trained model.
        min_kendall_tau=0.5,
    )

    manifest = Artifact.open(report.artifact).manifest
    Artifact.open(report.artifact).verify()
    assert manifest.architecture.model_type == family
    assert (manifest.architecture.num_hidden_layers, manifest.architecture.hidden_size) == (2, 64)
    assert manifest.max_length == MAX_LENGTH
    assert manifest.num_labels == num_labels
    assert manifest.uses_segment_ids == (family in WITH_SEGMENTS)
    assert {graph.precision: graph.fidelity.reference for graph in manifest.graphs} == {
        "fp32": "pytorch",
        "int8": "fp32",
        "fp16": "fp32",
    }
    fp32 = next(graph for graph in manifest.graphs if graph.precision == "fp32")
    assert fp32.fidelity.pairs == 32
    assert fp32.fidelity.max_abs_logit_difference <= 1e-4

    pairs = make_pairs(24, seed=11)
    logits = transformers_logits(checkpoint, pairs, max_length=MAX_LENGTH)
    expected = logits[:, 0] if num_labels == 1 else logits[:, 0] - logits[:, 1]
    assert np.std(expected) > 0.1, "logits that hardly differ would prove nothing"
    for options in ({"max_batch_tokens": 1}, {}):
        with ArtifactReranker(
            report.artifact, provider="cpu", precision="fp32", activation="identity", **options
        ) as reranker:
            np.testing.assert_allclose(reranker.score_pairs(pairs), expected, atol=1e-4, rtol=0)

    # The runner of GPUs, on the processor: padded to a grid, in buffers that are used again.
    pretend_gpu(monkeypatch)
    for precision, tolerance in (("fp32", 1e-4), ("fp16", 0.05)):
        options = {"precision": precision, "activation": "identity", "max_batch_tokens": 256}
        with ArtifactReranker(report.artifact, provider="cuda", **options) as reranker:
            for chosen in (pairs, pairs[::-1], pairs[:5]):
                found = reranker.score_pairs(chosen)
                np.testing.assert_allclose(found, scores_of(chosen, pairs, expected), atol=tolerance, rtol=0)


def scores_of(chosen, pairs, scores):
    return [scores[pairs.index(pair)] for pair in chosen]


def test_camembert_is_exported_as_the_roberta_it_is(tiny_checkpoint, tmp_path):
    import json
    import shutil

    checkpoint = tmp_path / "camembert"
    shutil.copytree(tiny_checkpoint("xlm-roberta"), checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"model_type": "camembert", "architectures": ["CamembertForSequenceClassification"]}
    (checkpoint / "config.json").write_text(json.dumps(config))

    report = export(
        checkpoint,
        tmp_path / "artifact",
        precisions=["fp32"],
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
    )

    manifest = Artifact.open(report.artifact).manifest
    assert manifest.max_length == MAX_LENGTH
    assert manifest.graphs[0].fidelity.max_abs_logit_difference <= 1e-4


def test_a_pooled_head_and_three_layers_keep_parity(tiny_checkpoint, tmp_path):
    checkpoint = tiny_checkpoint("modernbert", layers=3, classifier_pooling="mean")

    report = export(
        checkpoint,
        tmp_path / "artifact",
        precisions=["fp32"],
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
    )

    assert report.graphs[0].fidelity.max_abs_logit_difference <= 1e-4


def test_deberta_has_no_branches_and_scores_alike_at_every_length(tiny_checkpoint, tmp_path):
    import onnx

    checkpoint = tiny_checkpoint("deberta-v2")
    report = export(
        checkpoint,
        tmp_path / "artifact",
        precisions=["fp32"],
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
    )

    graph = onnx.load(report.artifact / "fp32.onnx").graph
    assert "If" not in {node.op_type for node in graph.node}
    words = ["the", "river", "ranks", "cold", "water", "in", "winter"]
    pairs = [("old", " ".join((words * 9)[:count])) for count in range(60)]
    expected = transformers_logits(checkpoint, pairs, max_length=MAX_LENGTH)[:, 0]
    with ArtifactReranker(report.artifact, provider="cpu", precision="fp32", activation="identity") as reranker:
        np.testing.assert_allclose(reranker.score_pairs(pairs), expected, atol=1e-4, rtol=0)
