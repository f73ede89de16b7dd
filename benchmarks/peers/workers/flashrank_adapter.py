"""FlashRank's Ranker on a folder with the graph of our weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGES = ("FlashRank", "tokenizers")
SCALE = "probability"


def load(*, graph: str, device: str) -> Callable[[str, list[str]], Iterable[float]]:
    """Load an ONNX file with the tokenizer's files beside it; it runs on the CPU only."""
    if device != "cpu":
        raise ValueError(f"asked for {device}; FlashRank runs on the CPU")
    from flashrank import Ranker, RerankRequest
    from flashrank.Ranker import model_file_map

    file = Path(graph)
    # Ranker knows models by name. With our folder's name among them, it opens the folder instead of fetching a model.
    model_file_map[file.parent.name] = file.name
    ranker = Ranker(file.parent.name, cache_dir=str(file.parent.parent), max_length=512, log_level="WARNING")

    def score(query: str, documents: list[str]) -> Iterable[float]:
        passages = [{"id": index, "text": document} for index, document in enumerate(documents)]
        ranked = ranker.rerank(RerankRequest(query=query, passages=passages))
        scores = [0.0] * len(documents)
        for passage in ranked:
            scores[passage["id"]] = passage["score"]
        return scores

    return score
