"""A small collection in BEIR's layout, and what the self-check is right about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_artifacts import write_artifact
from tiny_checkpoints import make_texts

from crossrank.benchmarks.harness.passages import Passages
from crossrank.models.artifact import Artifact
from crossrank.self_check.subject import Subject, opener
from crossrank.self_check.texts import CheckTexts

TEXTS = list(dict.fromkeys(make_texts(60, seed=8)))[:42]


@pytest.fixture
def texts() -> list[str]:
    """The collection's documents."""
    return TEXTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """42 documents, three queries, two of them judged."""
    folder = tmp_path / "small"
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{place}", "text": text} for place, text in enumerate(TEXTS)]
    queries = [
        {"_id": "q0", "text": "cold water"},
        {"_id": "q1", "text": "nobody judged"},
        {"_id": "q2", "text": "who"},
    ]
    for name, records in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "qrels" / "test.tsv").write_text("q0\td1\t2\nq0\td9\t1\nq2\td5\t1\n")
    run = [f"{query} Q0 d{place} {place} {50 - place} bm25" for query in ("q0", "q2") for place in range(42)]
    (folder / "bm25.trec").write_text("\n".join(run) + "\n")
    return folder


@pytest.fixture(scope="module")
def subject(tiny_checkpoint, tiny_graphs, tmp_path_factory):
    """The tiny artifact in every precision on the CPU."""
    folder = tmp_path_factory.mktemp("checked") / "tiny"
    precisions = ("fp32", "int8", "fp16")
    artifact = Artifact.open(write_artifact(folder, tiny_checkpoint("bert"), tiny_graphs, precisions=precisions))
    texts = CheckTexts(artifact, Passages("made", "the river", tuple(make_texts(80))))
    return Subject(artifact, "cpu", 0, texts, opener(artifact, "cpu", 0))
