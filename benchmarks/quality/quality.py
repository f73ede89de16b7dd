"""Ranking quality on a BEIR folder: BM25's first documents reranked, judged, and compared between precisions."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.benchmarks.harness.dependencies import require_ir_measures
from crossrank.benchmarks.harness.engine_options import engine_options
from crossrank.benchmarks.quality.beir import read_judged_collection
from crossrank.errors import InvalidInputError, TruncationWarning
from crossrank.export.verify.fidelity import kendall_tau, top_overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.benchmarks.quality.beir import Collection
    from crossrank.models.manifest import Precision, Provider

DEPTH = 50
CUTOFF = 10

Scores = dict[str, dict[str, float]]
"""Query identifier to {document identifier: score}."""


def measure_quality(
    artifacts: Mapping[Precision, Path],
    folder: Path,
    *,
    queries: int | None = None,
    depth: int = DEPTH,
    provider: Provider = "cpu",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Rerank the first documents of the folder's BM25 run with every precision.

    Args:
        artifacts: the artifact of each precision.
        folder: BEIR folder with judgements and one `*.trec` run.
        queries: how many of the queries, in the file's order; None takes all.
        depth: documents of the run to rerank.
        provider: execution provider.
        progress: told what is going on.

    Returns:
        nDCG@10 of BM25 and of each precision, and for each two precisions the mean Kendall tau and top-10 overlap.

    Raises:
        InvalidInputError: the folder has no judgements, no run, or none for the queries.
        MissingDependencyError: ir-measures is not installed.
    """
    collection = read_judged_collection(folder)
    chosen = chosen_queries(folder, collection, queries)
    ranked = {query: collection.runs[query][:depth] for query in chosen}
    judged = {query: collection.judgements.get(query, {}) for query in chosen}
    order = {query: {name: -float(rank) for rank, name in enumerate(names)} for query, names in ranked.items()}
    result: dict[str, Any] = {
        "collection": folder.name,
        "queries": len(chosen),
        "depth": depth,
        "bm25": ndcg(judged, order),
        "precisions": {},
        "agreement": [],
    }
    texts = {query: [collection.documents[name] for name in names] for query, names in ranked.items()}
    scores: dict[Precision, list[npt.NDArray[np.float32]]] = {}
    for precision, artifact in artifacts.items():
        requests = [(collection.queries[query], texts[query]) for query in chosen]
        scores[precision] = _score(artifact, precision, provider, requests, progress)
        own = {
            query: dict(zip(ranked[query], map(float, found), strict=True))
            for query, found in zip(chosen, scores[precision], strict=True)
        }
        result["precisions"][precision] = ndcg(judged, own)
    for left, right in itertools.combinations(scores, 2):
        matched = list(zip(scores[left], scores[right], strict=True))
        result["agreement"].append(
            {
                "precisions": [left, right],
                "kendall_tau": float(np.mean([kendall_tau(one, other) for one, other in matched])),
                "top10_overlap": float(np.mean([top_overlap(one, other) for one, other in matched])),
            }
        )
    return result


def chosen_queries(folder: Path, collection: Collection, queries: int | None) -> list[str]:
    """The first queries, as far as the run has documents for them.

    Args:
        folder: the collection's, for the message.
        collection: with judgements and a run.
        queries: how many, in the file's order; None takes all.

    Raises:
        InvalidInputError: the run has documents for none of them, or nothing is judged relevant to any.
    """
    first = list(collection.queries)[:queries]
    chosen = [query for query in first if query in collection.runs]
    if not any(map(collection.has_relevant, chosen)):
        raise InvalidInputError(
            f"{folder}: of its first {len(first)} queries {len(chosen)} are in the run, and none of those has a "
            "document with a grade above 0; a run and judgements of the queries in queries.jsonl expected"
        )
    return chosen


def ndcg(judged: Mapping[str, Mapping[str, int]], scores: Mapping[str, Mapping[str, float]]) -> float:
    """Mean nDCG@10 over the queries that have scores; see `ndcg_per_query`."""
    found = ndcg_per_query(judged, scores)
    return float(sum(found.values())) / len(scores)


def ndcg_per_query(
    judged: Mapping[str, Mapping[str, int]], scores: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """nDCG@10 with gains 2^grade - 1 of each query that has scores (Burges et al., ICML 2005).

    A query without a judged document has 0.

    Raises:
        MissingDependencyError: ir-measures is not installed.
    """
    require_ir_measures()
    import ir_measures
    from ir_measures import Qrel, ScoredDoc, nDCG

    grades = {grade for found in judged.values() for grade in found.values() if grade > 0}
    measure = nDCG(gains={grade: 2**grade - 1 for grade in grades}) @ CUTOFF
    qrels = [Qrel(query, name, grade) for query, found in judged.items() for name, grade in found.items()]
    run = [ScoredDoc(query, name, score) for query, found in scores.items() for name, score in found.items()]
    found = {metric.query_id: float(metric.value) for metric in ir_measures.iter_calc([measure], qrels, run)}
    return dict.fromkeys(scores, 0.0) | found


def _score(
    artifact: Path,
    precision: Precision,
    provider: Provider,
    requests: Sequence[tuple[str, list[str]]],
    progress: Callable[[str], None],
) -> list[npt.NDArray[np.float32]]:
    """Logits of every query's documents."""
    from crossrank import Reranker

    scores = []
    with (
        Reranker(artifact, precision=precision, activation="identity", **engine_options(provider)) as reranker,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", TruncationWarning)  # cutting at the model's length is part of the task
        for index, (query, documents) in enumerate(requests, start=1):
            progress(f"quality: {precision}, query {index} of {len(requests)}")
            scores.append(reranker.score(query, documents))
    return scores
