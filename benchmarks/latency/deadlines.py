"""Ranking quality under time limits, and whether the limits are kept: `rank(deadline_ms=...)` on many candidates."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.benchmarks.harness.candidates import chosen_candidates
from crossrank.benchmarks.harness.engine_options import engine_options
from crossrank.benchmarks.harness.sampling import percentiles
from crossrank.evaluation.beir import read_judged_collection
from crossrank.evaluation.measures import ndcg
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from crossrank.evaluation.collection import Collection
    from crossrank.models.manifest import Precision, Provider

LIMITS_MS = (50, 100, 200, 500, 1000, 2000, 5000)
CANDIDATES = 1000
_WARM_UP_MS = 2000


def measure_deadlines(  # noqa: PLR0913  one parameter an option
    artifact: Path,
    folder: Path,
    *,
    precision: Precision,
    queries: int | None = None,
    limits_ms: Sequence[float | None] = (*LIMITS_MS, None),
    candidates: int = CANDIDATES,
    rounds: int = 1,
    provider: Provider = "cpu",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Rank the same candidates under every limit, in turn.

    The candidates are the documents of the run, best first, then others of the corpus. They are scored in this
    first-stage order.

    Args:
        artifact: folder of the model's artifact.
        folder: BEIR folder with judgements and one `*.trec` run.
        precision: of the graph.
        queries: how many of those with judgements, evenly spread; None takes all.
        limits_ms: the limits; None among them ranks without a limit.
        candidates: of each query.
        rounds: how often every query is ranked under every limit; without a limit it is ranked once.
        provider: execution provider.
        progress: called with each step as it begins.

    Returns:
        nDCG@10 of the first-stage order, and for each limit nDCG@10, documents scored, and the time over the limit.

    Raises:
        InvalidInputError: the folder has no judgements, none for its queries, no run, or too few documents.
        MissingDependencyError: ir-measures is not installed.
    """
    collection = read_judged_collection(folder)
    candidates_of = chosen_candidates(folder, collection, queries, candidates)
    judged = {query: collection.judgements.get(query, {}) for query in candidates_of}
    result: dict[str, Any] = {
        "collection": folder.name,
        "queries": len(candidates_of),
        "candidates": candidates,
        "precision": precision,
        "first_stage": ndcg(judged, candidates_of),
    }
    with Reranker(artifact, precision=precision, activation="identity", **engine_options(provider)) as reranker:
        calls = _Calls(reranker, collection, candidates_of)
        calls.run(_WARM_UP_MS, next(iter(candidates_of)))
        longest_run = _LongestRun(reranker)
        rows: dict[float | None, list[dict[str, Any]]] = {}
        for round_number in range(rounds):
            for number, query in enumerate(candidates_of, start=1):
                progress(f"deadlines: {folder.name}, round {round_number + 1}, query {number} of {len(candidates_of)}")
                for limit in limits_ms:
                    if limit is not None or round_number == 0:
                        call = calls.run(limit, query) | {"longest_run": longest_run.seconds_since_last()}
                        rows.setdefault(limit, []).append(call)
    result["limits"] = [_summary(limit, entries, judged) for limit, entries in rows.items()]
    return result


class _Calls:
    """Calls of one reranker under limits."""

    def __init__(self, reranker: Reranker, collection: Collection, candidates_of: dict[str, tuple[str, ...]]) -> None:
        self._reranker = reranker
        self._collection = collection
        self._candidates_of = candidates_of

    def run(self, limit_ms: float | None, query: str) -> dict[str, Any]:
        names = self._candidates_of[query]
        documents = [self._collection.documents[name] for name in names]
        started = time.perf_counter()
        ranking = self._reranker.rank(
            self._collection.queries[query], documents, return_documents=False, deadline_ms=limit_ms
        )
        seconds = time.perf_counter() - started
        return {
            "query": query,
            "seconds": seconds,
            "scored": len(names) - len(ranking.unscored),
            "ranking": [names[document.index] for document in ranking],
        }


class _LongestRun:
    """Observes a reranker's runs and keeps the time of the longest."""

    def __init__(self, reranker: Reranker) -> None:
        self._longest = 0.0
        reranker.observe_batches(self._observe)

    def seconds_since_last(self) -> float:
        """Seconds of the longest run since this was last called."""
        longest, self._longest = self._longest, 0.0
        return longest

    def _observe(self, batch: Any) -> None:
        self._longest = max(self._longest, batch.seconds)


def _summary(
    limit_ms: float | None, entries: Sequence[dict[str, Any]], judged: dict[str, dict[str, int]]
) -> dict[str, Any]:
    """Figures of one limit.

    `over_seconds` is the time beyond the limit; `kept` the share of calls that exceeded it by at most a tenth of the
    limit and the longest run.
    """
    seconds = np.asarray([entry["seconds"] for entry in entries])
    summary: dict[str, Any] = {
        "limit_ms": limit_ms,
        "calls": len(entries),
        "ndcg": float(np.mean([ndcg({e["query"]: judged[e["query"]]}, {e["query"]: e["ranking"]}) for e in entries])),
        "scored": float(np.mean([entry["scored"] for entry in entries])),
        "seconds": percentiles(seconds.tolist()),
    }
    if limit_ms is not None:
        over = seconds - limit_ms / 1000
        allowed = 0.1 * limit_ms / 1000 + np.asarray([entry["longest_run"] for entry in entries])
        summary["over_seconds"] = percentiles(over.tolist())
        summary["kept"] = float((over <= allowed).mean())
    return summary
