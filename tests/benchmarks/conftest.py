"""A small collection in BEIR's layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_checkpoints import make_texts

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
    documents = [{"_id": f"d{index}", "text": text} for index, text in enumerate(TEXTS)]
    queries = [
        {"_id": "q0", "text": "cold water"},
        {"_id": "q1", "text": "nobody judged"},
        {"_id": "q2", "text": "who"},
    ]
    for name, records in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "qrels" / "test.tsv").write_text("q0\td1\t2\nq0\td9\t1\nq2\td5\t1\n")
    run = [f"{query} Q0 d{index} {index} {50 - index} bm25" for query in ("q0", "q2") for index in range(42)]
    (folder / "bm25.trec").write_text("\n".join(run) + "\n")
    return folder
