"""What the export's tests share: a small file of verification pairs, and logits straight from transformers."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import numpy as np
from tiny_checkpoints import make_pairs, make_texts

if TYPE_CHECKING:
    from pathlib import Path


HAS_OPTIMUM = importlib.util.find_spec("optimum") is not None
"""Whether exports that name no exporter are by optimum, and else by torch."""

LAYERS = 3
"""Options of the checkpoints whose graphs the `exported_graph` fixture makes."""


def write_pairs(path: Path, *, queries: int = 4, documents: int = 8) -> Path:
    """A JSONL file of verification pairs, few enough for tiny checkpoints to score in no time."""
    texts = make_texts(queries * documents, seed=5)
    asked = [query for query, _ in make_pairs(queries, seed=6)]
    lines = [
        json.dumps({"query": asked[i], "documents": texts[i * documents : (i + 1) * documents]}, ensure_ascii=False)
        for i in range(queries)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def transformers_logits(checkpoint: Path, pairs: list[tuple[str, str]], *, max_length: int) -> np.ndarray:
    """Logits (n, labels) by transformers alone, one pair a forward pass."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).float().eval()
    rows = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        for query, document in pairs:
            # As lists: transformers would encode a single pair with an empty document as a single text.
            feeds = tokenizer([query], [document], truncation="only_second", max_length=max_length, return_tensors="pt")
            rows.append(model(**feeds).logits[0].numpy())
    torch.set_num_threads(threads)
    return np.stack(rows)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
