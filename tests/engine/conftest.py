"""What the engine's tests share: documents of many lengths with the scores they must get."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runner import make_scheduler
from tiny_artifacts import reference_logits
from tiny_checkpoints import make_texts

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.runtime.session import GraphSession
from crossrank.engine.text.encoding import PairEncoder
from crossrank.models.artifact import Artifact
from crossrank.models.embedded import embedded_artifact

QUERY = "the old café carries wind-tunnel results"


@dataclass(frozen=True)
class Scored:
    """Documents with the logits that a plain fp32 session gives them for a query, one pair a run."""

    query: str
    documents: list[str]
    logits: np.ndarray


@pytest.fixture(scope="session")
def scored(tiny_checkpoint: Callable[..., Path], tiny_graphs: Path) -> Scored:
    texts = enumerate(make_texts(30, seed=9))
    documents = ["", *(text if index % 3 else text[: 7 * index] for index, text in texts), "日本語で", "?"]
    pairs = [(QUERY, document) for document in documents]
    logits = reference_logits(tiny_graphs / "fp32.onnx", tiny_checkpoint("bert"), pairs)[:, 0]
    assert max(map(len, documents)) > 250, "none of the documents is longer than the model takes"
    # Scores that hardly differ could change places unseen.
    assert np.diff(np.sort(logits)).max() > 0.1
    assert len(np.unique(logits.round(3))) > 25
    return Scored(QUERY, documents, logits)


@pytest.fixture(scope="session")
def default_encoder() -> PairEncoder:
    """The embedded model's encoder."""
    artifact = Artifact.open(embedded_artifact())
    manifest = artifact.manifest
    return PairEncoder.load(
        artifact.path(manifest.tokenizer), max_length=manifest.max_length, pad_token_id=manifest.pad_token_id
    )


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """Garbage collections that look only at what the test makes, not at the libraries other tests loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def reranker(tiny_artifact: Path) -> Iterator[Callable[..., ArtifactReranker]]:
    """A function that opens the tiny artifact with options; all are closed at the end of the test."""
    opened: list[ArtifactReranker] = []

    def make(artifact: Path = tiny_artifact, **options: Any) -> ArtifactReranker:
        options = {"provider": "cpu", "precision": "fp32"} | options
        opened.append(ArtifactReranker(artifact, **options))
        return opened[-1]

    yield make
    for item in opened:
        item.close()


@pytest.fixture
def scheduler():
    """A function that makes a scheduler on a runner; all are closed at the end, their gates opened."""
    made = []

    def make(runner, **options):
        made.append((runner, make_scheduler(runner, **options)))
        return made[-1][1]

    yield make
    for runner, item in made:
        runner.open_gate()
        item.close(drain=False)


@pytest.fixture(scope="session")
def parts(tiny_artifact: Path) -> tuple[Path, Any, GraphSession]:
    """The fp32 graph's file, its manifest, and a plain session."""
    artifact = Artifact.open(tiny_artifact)
    path = artifact.path("fp32.onnx")
    return path, artifact.manifest, GraphSession(path, artifact.manifest, threads=1, spin=False)
