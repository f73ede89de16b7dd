"""What decides scores: two rerankers that score otherwise are never told to be the same."""

import onnx
import pytest
from tiny_artifacts import copy_artifact, rewrite_manifest, with_instruction

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.score_settings import score_settings
from crossrank.engine.text.windows import Windows

PAIR = ("the river", "every reader measures wind-tunnel results by hand")


@pytest.fixture(scope="module")
def instructed(tiny_artifact, tmp_path_factory):
    return with_instruction(tiny_artifact, tmp_path_factory.mktemp("instructed") / "artifact")


def opened(artifact, **options):
    """Settings and a score."""
    with ArtifactReranker(artifact, **({"provider": "cpu", "precision": "fp32", "threads": 1} | options)) as reranker:
        return score_settings(reranker), reranker.score_pairs([PAIR])[0]


def test_an_instruction_decides_scores(instructed):
    (plain, plain_score), (cold, cold_score) = opened(instructed), opened(instructed, instruction="cold water")
    assert plain_score != cold_score, "one that changes nothing would prove nothing"
    assert plain != cold
    assert (plain["instruction"], cold["instruction"]) == (None, "cold water")


def test_info_has_the_models_own_instruction_where_the_caller_has_none(tiny_artifact, tmp_path):
    own = with_instruction(tiny_artifact, tmp_path / "own", instruction="who reads")
    with ArtifactReranker(own) as reranker:
        assert reranker.info().instruction == "who reads"
    with ArtifactReranker(own, instruction="cold water") as reranker:
        assert reranker.info().instruction == "cold water"
    with ArtifactReranker(tiny_artifact) as reranker:
        assert reranker.info().instruction is None


def test_template_and_label_decide_scores(tiny_artifact, instructed, raw_graph, tmp_path):
    suffix = with_instruction(tiny_artifact, tmp_path / "suffix", suffix=("by hand", "[SEP]"))
    label = copy_artifact(tiny_artifact, tmp_path / "label")
    onnx.save(raw_graph("bert", num_labels=2), label / "fp32.onnx")
    rewrite_manifest(label, num_labels=2, positive_label=1)
    other = copy_artifact(label, tmp_path / "other", positive_label=0)
    found = []
    for artifact in (tiny_artifact, instructed, suffix, label, other):
        with ArtifactReranker(artifact, precision="fp32") as reranker:
            found.append(score_settings(reranker))
    assert all(one != another for index, one in enumerate(found) for another in found[:index])


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "int8"},
        {"max_length": 32},
        {"activation": "sigmoid"},
        {"truncation": "longest_first"},
        {"long_documents": Windows()},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_that_change_scores_decide_them_and_others_do_not(options, tiny_artifact):
    usual = opened(tiny_artifact)[0]
    assert opened(tiny_artifact, **options)[0] != usual
    assert opened(tiny_artifact, threads=2, max_batch_tokens=128, score_cache_bytes=1 << 20)[0] == usual
