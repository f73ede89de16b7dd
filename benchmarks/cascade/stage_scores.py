"""Scores of many candidates at several lengths, and the time they took: the data that cascades are tuned on.

Scoring a thousand candidates of a query takes long, so scores can be stored in a file, one JSON line for each query and
length, and are read from it when they are needed again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.benchmarks.harness.candidates import chosen_candidates
from crossrank.benchmarks.harness.json_text import json_of, value_of
from crossrank.engine.score_settings import score_settings
from crossrank.errors import InferenceError, InvalidInputError
from crossrank.evaluation.beir import read_collection
from crossrank.evaluation.kept_scores import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.engine.artifact_reranker import ArtifactReranker
    from crossrank.engine.text.prepared import PreparedDocuments


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


@dataclass(frozen=True)
class _TimedScores:
    """One query's scores at one length, and the seconds they took; a line of the file."""

    key: str
    seconds: float
    logits: list[float]


class ScoreFile:
    """Scores stored in a file of JSON lines, or only in memory."""

    def __init__(self, path: Path | None) -> None:
        """Read the scores that the file holds already.

        Args:
            path: the file, made when the first scores are stored; None keeps scores in memory only.

        Raises:
            InvalidInputError: a line of the file is not a record of scores.
        """
        self._path = path
        self._stored: dict[str, _TimedScores] = {}
        if path is None or not path.exists():
            return
        # Bytes that are not UTF-8 become U+FFFD, so that their line is refused as any other wrong line.
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            try:
                scores = value_of(_TimedScores, line)
            except ValueError as error:
                raise InvalidInputError(f"{path}, line {number} holds no scores of a stage: {error}") from error
            self._stored[scores.key] = scores

    def get(self, key: str, compute: Callable[[], npt.NDArray[np.float32]]) -> _TimedScores:
        """Scores and time stored under a key; computed, timed and stored if there are none.

        Args:
            key: what the scores are of.
            compute: gives the scores.
        """
        if key not in self._stored:
            started = time.perf_counter()
            logits = compute()
            scores = _TimedScores(key, time.perf_counter() - started, logits.tolist())
            self._stored[key] = scores
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as stream:
                    stream.write(json_of(scores) + "\n")
        return self._stored[key]


def score_stages(
    early: ArtifactReranker,
    full: ArtifactReranker,
    folder: Path,
    *,
    early_lengths: Sequence[int],
    queries: int | None,
    candidates: int,
    score_file: ScoreFile,
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
        score_file: has the scores that are known, and stores the others.
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
    keys = {length: digest_of(score_settings(reranker))[:16] for length, (reranker, _) in scorers.items()}
    for row, query in enumerate(chosen):
        indices = np.asarray([index_of[name] for name in candidates_of[query]])
        for length, (reranker, encoded) in scorers.items():
            progress(f"{folder.name}: query {row + 1} of {len(chosen)}, {length} tokens")
            compute = _Scoring(reranker, collection.queries[query], encoded, indices, length, candidates_of[query])
            scores = score_file.get(f"{folder.name} {query} {length} {len(indices)} {keys[length]}", compute)
            logits[length][row] = scores.logits
            seconds[length] += scores.seconds / (len(chosen) * len(indices))
    judged = {query: collection.judgements.get(query, {}) for query in chosen} if collection.judgements else {}
    return StageScores(
        folder.name,
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


@dataclass(frozen=True)
class _Scoring:
    """One query's documents at one length, scored when called."""

    reranker: ArtifactReranker
    query: str
    documents: PreparedDocuments
    indices: npt.NDArray[np.int64]
    max_length: int
    names: Sequence[str]

    def __call__(self) -> npt.NDArray[np.float32]:
        scores = self.reranker.score_indices(self.query, self.documents, self.indices, max_length=self.max_length)
        for position, failure in scores.failed.items():
            name, length = self.names[position], self.max_length
            raise InferenceError(
                f"document {name!r} of the collection has no score at {length} tokens: {failure.error}"
            )
        return scores.logits
