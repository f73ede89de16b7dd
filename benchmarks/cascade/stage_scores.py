"""Scores of many candidates at several lengths, with the time they took: what cascades are tuned on.

Scoring a thousand candidates a query takes long, so scores can be kept in a file, a JSON line for each query and
length, and are taken from there when the same is asked again.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.errors import InvalidInputError
from crossrank.evaluation.beir import read_collection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.engine.artifact_reranker import ArtifactReranker
    from crossrank.engine.text.prepared import PreparedDocuments
    from crossrank.evaluation.collection import Collection


@dataclass(frozen=True)
class StageScores:
    """Logits of one collection's candidates at several lengths.

    Attributes:
        name: of the collection.
        queries: query identifiers.
        candidates: for each query its candidates, best of the run first.
        judged: for each query {document identifier: grade}; empty where there are no judgements.
        logits: max_length to float32 (queries, candidates).
        seconds: max_length to seconds a document, mean over all calls.
        encoding_seconds: seconds to encode a document whole.
    """

    name: str
    queries: tuple[str, ...]
    candidates: dict[str, tuple[str, ...]]
    judged: dict[str, dict[str, int]]
    logits: dict[int, npt.NDArray[np.float32]]
    seconds: dict[int, float]
    encoding_seconds: float


@dataclass(frozen=True)
class _Kept:
    """One query's scores at one length, as a file holds them."""

    seconds: float
    logits: list[float]


class ScoreFile:
    """Scores kept in a file of JSON lines, or only in memory."""

    def __init__(self, path: Path | None) -> None:
        """Read what is there.

        Raises:
            InvalidInputError: the file holds something else.
        """
        self._path = path
        self._kept: dict[str, _Kept] = {}
        if path is None or not path.exists():
            return
        # Undecodable bytes are no scores either: read as U+FFFD, they are refused with their line.
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            try:
                record = json.loads(line)
                self._kept[record["key"]] = _Kept(float(record["seconds"]), list(map(float, record["logits"])))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InvalidInputError(f"{path}, line {number} holds no scores of a stage: {error!r}") from error

    def get(self, key: str, make: Callable[[], npt.NDArray[np.float32]]) -> _Kept:
        """Scores and time under a key, made and kept where they are not there."""
        if key not in self._kept:
            started = time.perf_counter()
            logits = make()
            self._kept[key] = _Kept(time.perf_counter() - started, logits.tolist())
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as stream:
                    record = {"key": key, "seconds": self._kept[key].seconds, "logits": self._kept[key].logits}
                    stream.write(json.dumps(record) + "\n")
        return self._kept[key]


def score_stages(
    reranker: ArtifactReranker,
    folder: Path,
    *,
    max_lengths: Sequence[int],
    queries: int | None,
    candidates: int,
    kept: ScoreFile,
    progress: Callable[[str], None] = lambda _: None,
) -> StageScores:
    """Score every candidate of some queries at every length.

    Candidates are the run's documents, best first, then others of the corpus in its order until there are enough.

    Args:
        reranker: scores; its own length should be among `max_lengths`.
        folder: BEIR folder; its run and judgements are used where it has them.
        max_lengths: tokens of a pair.
        queries: how many queries, evenly spread over the file; None takes all.
        candidates: of each query at most.
        kept: scores that are known, and where to keep those that are not.
        progress: called with what is going on.

    Raises:
        InvalidInputError: the folder cannot be read, or not used: see `chosen_candidates`.
    """
    collection = read_collection(folder)
    documents = chosen_candidates(folder, collection, queries, candidates)
    names = list(collection.documents)
    index_of = {name: index for index, name in enumerate(names)}
    started = time.perf_counter()
    prepared = reranker.prepare([collection.documents[name] for name in names])
    encoding_seconds = (time.perf_counter() - started) / len(names)
    chosen = list(documents)
    graph = reranker.info().graph_sha256[:16]
    logits = {length: np.empty((len(chosen), candidates), dtype=np.float32) for length in max_lengths}
    seconds = dict.fromkeys(max_lengths, 0.0)
    for row, query in enumerate(chosen):
        indices = np.asarray([index_of[name] for name in documents[query]])
        for length in max_lengths:
            progress(f"{folder.name}: query {row + 1} of {len(chosen)}, {length} tokens")
            scorer = _Scoring(reranker, collection.queries[query], prepared, indices, length)
            scores = kept.get(f"{folder.name} {query} {length} {len(indices)} {graph}", scorer)
            logits[length][row] = scores.logits
            seconds[length] += scores.seconds / (len(chosen) * len(indices))
    judged = {query: collection.judgements.get(query, {}) for query in chosen} if collection.judgements else {}
    return StageScores(folder.name, tuple(chosen), documents, judged, logits, seconds, encoding_seconds)


@dataclass(frozen=True)
class _Scoring:
    """One query's documents at one length, scored when called."""

    reranker: ArtifactReranker
    query: str
    documents: PreparedDocuments
    indices: npt.NDArray[np.int64]
    max_length: int

    def __call__(self) -> npt.NDArray[np.float32]:
        return self.reranker.score_indices(self.query, self.documents, self.indices, max_length=self.max_length).logits


def chosen_candidates(
    folder: Path, collection: Collection, queries: int | None, candidates: int
) -> dict[str, tuple[str, ...]]:
    """Queries that something is relevant to, evenly spread, each with the run's documents, then others of the corpus.

    Args:
        folder: the collection's, for the message.
        collection: where there are no judgements, all queries count.
        queries: how many; None takes all.
        candidates: of each query.

    Raises:
        InvalidInputError: the corpus has fewer documents, or the judgements are for none of the queries.
    """
    names = list(collection.documents)
    if len(names) < candidates:
        raise InvalidInputError(
            f"{folder}, {candidates} candidates: the corpus has {len(names)} documents; at most that many expected"
        )
    usable = _usable_queries(collection)
    if not usable:
        raise InvalidInputError(
            f"{folder}: none of its {len(collection.queries)} queries has a document with a grade above 0; "
            "judgements of the queries in queries.jsonl expected"
        )
    chosen = _spread(usable, queries)
    return {query: _candidates(collection, query, names, candidates) for query in chosen}


def _usable_queries(collection: Collection) -> list[str]:
    """Queries that something is relevant to; all where there are no judgements."""
    if not collection.judgements:
        return list(collection.queries)
    return [query for query in collection.queries if collection.has_relevant(query)]


def _candidates(collection: Collection, query: str, names: list[str], count: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*collection.runs.get(query, ()), *names)))[:count]


def _spread(items: list[Any], count: int | None) -> list[Any]:
    if count is None or count >= len(items):
        return items
    return [items[index * len(items) // count] for index in range(count)]
