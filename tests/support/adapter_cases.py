"""What the adapters' tests share, without torch: they also run where only a framework and crossrank are installed."""

from __future__ import annotations

from types import SimpleNamespace

from crossrank import RankedDocument, RankResult
from crossrank.engine.artifact_reranker import ArtifactReranker

MODEL = "default-small"
QUERY = "how do vaccines teach the immune system?"
TEXTS = [
    "Stock prices fell on Monday.",
    "Vaccines show the immune system a harmless piece of a germ, and it remembers.",
    "Bees make honey from nectar.",
    "A vaccine trains immune cells to recognise a virus.",
    "",
    "Steel is iron with a little carbon.",
]


class ScoredByLength(ArtifactReranker):
    """Scores a document by its length, and gives none to one of a single character."""

    def __init__(self) -> None:
        pass

    def rank(self, query, documents, top_k=None, return_documents=True, **options):
        scored = sorted(
            (index for index, text in enumerate(documents) if len(text) != 1), key=lambda i: -len(documents[i])
        )
        rest = [index for index in range(len(documents)) if index not in scored]
        items = [RankedDocument(index, float(len(documents[index])), None, False) for index in scored]
        items += [RankedDocument(index, None, None, False, unscored_because="failed") for index in rest]
        return RankResult(tuple(items[:top_k]), len(scored), 0, False, tuple(rest), "failed")

    def info(self):
        return SimpleNamespace(activation="identity")
