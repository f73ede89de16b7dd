"""A small judged collection in BEIR's layout, and rerankers whose scores are known."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest

DOCUMENTS = {"a": ("Rivers", "the river heats cold water"), "b": ("", "every reader"), "c": (None, "bread in winter")}


@pytest.fixture
def collection(tmp_path):
    """Three documents; two queries, the second of the file judged first; the run of each has two documents."""
    folder = tmp_path / "small"
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": name, "title": title, "text": text} for name, (title, text) in DOCUMENTS.items()]
    queries = [{"_id": "2", "text": "who reads"}, {"_id": "1", "text": "cold water"}]
    for name, records in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t2\n1\tc\t1\n2\tb\t1\n")
    lines = ["1 Q0 c 1 9.5 bm25", "1 Q0 a 2 9.1 bm25", "2 Q0 b 2 3.0 bm25", "2 Q0 a 1 4.0 bm25"]
    (folder / "bm25.trec").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def counted(monkeypatch):
    """The queries that are scored from now on, in a list; scores depend on the texts alone."""
    from crossrank.engine.artifact_reranker import ArtifactReranker

    queries = []

    def score(self, query, documents, **_):
        queries.append(query)
        return np.asarray([zlib.crc32(f"{query} {text}".encode()) % 1000 for text in documents], dtype=np.float32)

    monkeypatch.setattr(ArtifactReranker, "score", score)
    return queries


@pytest.fixture
def many_queries(tmp_path):
    """A BEIR folder of 12 queries, each with ten candidates, three of them judged."""
    folder = tmp_path / "many"
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{index}", "text": f"the river number {index} heats cold water"} for index in range(20)]
    queries = [{"_id": f"q{index}", "text": f"who reads {index}"} for index in range(12)]
    for name, records in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    judged = [f"q{query}\td{(query + 3 * step) % 20}\t{step}" for query in range(12) for step in range(3)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(judged) + "\n")
    run = [f"q{q} Q0 d{(q + rank) % 20} {rank} {50 - rank} bm25" for q in range(12) for rank in range(1, 11)]
    (folder / "bm25.trec").write_text("\n".join(run) + "\n")
    return folder
