"""Scores of many candidates at several lengths, and the time they took: the data that cascades are tuned on.

Scoring a thousand candidates of a query takes long, so scores can be kept in a folder, a file for each query and
length, and are read from it when they are needed again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.benchmarks.harness.candidates import chosen_candidates
from crossrank.errors import InferenceError
from crossrank.evaluation.beir import read_collection
from crossrank.evaluation.kept_scores import QueryScores, digest_of
from crossrank.evaluation.scoring import Candidates, measured_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.engine.artifact_reranker import ArtifactReranker
    from crossrank.engine.text.prepared import PreparedDocuments
    from crossrank.evaluation.kept_scores import KeptScores


@dataclass(frozen=True)
class StageScores:
    """Logits of one collection's candidates at several lengths.

    Attributes:
        name: of the collection.
        queries: query identifiers.
        candidates: for each query the document identifiers, best of the run first.
        judged: for each query {document identifier: grade}; empty if the collection has no judgements.
        logits: max_length to float32 (queries, candidates).
        seconds: max_length to scoring seconds per document, mean over all calls.
        encoding_seconds: seconds to encode a whole document for the full model, mean.
        early_encoding_seconds: the same for the model of the stages before; 0 where it uses the full model's encoding.
    """

    name: str
    queries: tuple[str, ...]
    candidates: dict[str, tuple[str, ...]]
    judged: dict[str, dict[str, int]]
    logits: dict[int, npt.NDArray[np.float32]]
    seconds: dict[int, float]
    encoding_seconds: float
    early_encoding_seconds: float


def score_stages(
    early: ArtifactReranker,
    full: ArtifactReranker,
    folder: Path,
    *,
    early_lengths: Sequence[int],
    queries: int | None,
    candidates: int,
    kept: KeptScores,
    progress: Callable[[str], None] = lambda _: None,
) -> StageScores:
    """Score every candidate of some queries at every length, and by the full model.

    Args:
        early: model of the stages before the last; may be `full`.
        full: model of the last stage, which reads as much as it can.
        folder: BEIR folder; its run and judgements are used if it has them.
        early_lengths: tokens of a pair in stages before the last, below the full model's `max_length`.
        queries: how many queries, evenly spread over the file; None takes all.
        candidates: of each query; see `chosen_candidates`.
        kept: has the scores that are known, and keeps the others.
        progress: called with each step as it begins.

    Raises:
        InvalidInputError: the folder cannot be read, or `chosen_candidates` refuses the collection.
        InferenceError: a document has no score; the message names it.
    """
    collection = read_collection(folder)
    candidates_of = chosen_candidates(folder, collection, queries, candidates)
    names = list(collection.documents)
    index_of = {name: index for index, name in enumerate(names)}
    documents = [collection.documents[name] for name in names]
    prepared, encoding_seconds = _prepared(full, documents)
    early_prepared, early_encoding_seconds = prepared, 0.0
    if early.prepared_key != full.prepared_key:
        early_prepared, early_encoding_seconds = _prepared(early, documents)
    chosen = list(candidates_of)
    scorers = dict.fromkeys(early_lengths, (early, early_prepared)) | {full.info().max_length: (full, prepared)}
    logits = {length: np.empty((len(chosen), candidates), dtype=np.float32) for length in scorers}
    seconds = dict.fromkeys(scorers, 0.0)
    models = {
        length: digest_of({"prepared": True, "max_length": length, "model": measured_settings(reranker)})
        for length, (reranker, _) in scorers.items()
    }
    for row, query in enumerate(chosen):
        own = Candidates(collection.queries[query], [collection.documents[name] for name in candidates_of[query]])
        texts = own.digest()
        indices = np.asarray([index_of[name] for name in candidates_of[query]])
        for length, (reranker, encoded) in scorers.items():
            progress(f"{collection.name}: query {row + 1} of {len(chosen)}, {length} tokens")
            scores = kept.read(models[length], texts, len(indices))
            if scores is None:
                scores = _scored(reranker, own.query, encoded, indices, length, candidates_of[query])
                kept.write(models[length], texts, scores)
            logits[length][row] = scores.scores
            seconds[length] += scores.seconds / (len(chosen) * len(indices))
    judged = {query: collection.judgements.get(query, {}) for query in chosen} if collection.judgements else {}
    return StageScores(
        collection.name,
        tuple(chosen),
        candidates_of,
        judged,
        logits,
        seconds,
        encoding_seconds,
        early_encoding_seconds,
    )


def _prepared(reranker: ArtifactReranker, documents: Sequence[str]) -> tuple[PreparedDocuments, float]:
    """The encoded documents, and the seconds that one took."""
    started = time.perf_counter()
    prepared = reranker.prepare(documents)
    return prepared, (time.perf_counter() - started) / len(documents)


def _scored(
    reranker: ArtifactReranker,
    query: str,
    documents: PreparedDocuments,
    indices: npt.NDArray[np.int64],
    max_length: int,
    names: Sequence[str],
) -> QueryScores:
    """One query's documents at one length, scored and timed."""
    started = time.perf_counter()
    scores = reranker.score_indices(query, documents, indices, max_length=max_length)
    seconds = time.perf_counter() - started
    for position, failure in scores.failed.items():
        raise InferenceError(
            f"document {names[position]!r} of the collection has no score at {max_length} tokens: {failure.error}"
        )
    return QueryScores(scores.logits, seconds)
