"""The subject of the checks: a tiny artifact with the real engine."""

from __future__ import annotations

import pytest
from tiny_artifacts import write_artifact
from tiny_checkpoints import make_texts

from crossrank.benchmarks.harness.passages import Passages
from crossrank.models.artifact import Artifact
from crossrank.self_check.subject import Subject, opener
from crossrank.self_check.texts import CheckTexts


@pytest.fixture(scope="module")
def subject(tiny_checkpoint, tiny_graphs, tmp_path_factory):
    """The tiny artifact in every precision on the CPU."""
    folder = tmp_path_factory.mktemp("checked") / "tiny"
    precisions = ("fp32", "int8", "fp16")
    artifact = Artifact.open(write_artifact(folder, tiny_checkpoint("bert"), tiny_graphs, precisions=precisions))
    texts = CheckTexts(artifact, Passages("made", "the river", tuple(make_texts(80))))
    return Subject(artifact, "cpu", 0, texts, opener(artifact, "cpu", 0))
