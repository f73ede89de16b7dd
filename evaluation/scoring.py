"""Opening whatever is to be evaluated, and scoring the candidates of every query with it."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from crossrank import __version__
from crossrank.cascade import Cascade
from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.score_settings import score_settings
from crossrank.errors import InferenceError, TruncationWarning
from crossrank.evaluation.kept_scores import KeptScores, QueryScores, digest_of
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from crossrank.engine.call.results import RankResult
    from crossrank.models.manifest import PrecisionChoice, ProviderChoice

Model: TypeAlias = str | Path | ArtifactReranker | Cascade
"""A model as `Reranker` takes it, or an open reranker or cascade, which stays the caller's to close."""


@dataclass(frozen=True, kw_only=True)
class OpenOptions:
    """How models that are given by name are opened; see `Reranker`."""

    provider: ProviderChoice = "auto"
    precision: PrecisionChoice = "auto"
    threads: int | None = None
    max_length: int | None = None


@dataclass(frozen=True)
class Candidates:
    """What a model scores for one query."""

    query: str
    documents: Sequence[str]

    def digest(self) -> str:
        """Digest of all the texts, in their order."""
        return digest_of([self.query, *self.documents])


@dataclass(frozen=True)
class ModelScores:
    """What one model made of every query.

    Attributes:
        precision: of the graph; a cascade's stages' between commas.
        digest: of the model with the options that its scores and times depend on.
        queries: scores and time of each query, in the queries' order.
        kept: how many of them an earlier evaluation had scored.
    """

    precision: str
    digest: str
    queries: tuple[QueryScores, ...]
    kept: int


def check_model(model: Model, options: OpenOptions) -> None:
    """Open a model and close it again, so that one that cannot be used is refused before others are scored for hours.

    Args:
        model: to score with later.
        options: for a model that is given by name.

    Raises:
        CrossrankError: the model cannot be used.
    """
    with _opened(model, options):
        pass


def measured_settings(reranker: ArtifactReranker) -> Mapping[str, Any]:
    """What an open reranker's scores and times depend on, besides the machine; for whoever keeps both."""
    info = reranker.info()
    return {
        "crossrank": __version__,
        **score_settings(reranker),
        "devices": info.devices,
        "threads": info.threads,
        "max_batch_tokens": info.max_batch_tokens,
        "onnxruntime": info.onnxruntime_version,
    }


def score_candidates(
    model: Model,
    candidates: Sequence[Candidates],
    *,
    options: OpenOptions,
    kept: KeptScores,
    progress: Callable[[str], None],
) -> ModelScores:
    """Score every query's candidates, one query a call.

    Args:
        model: to score with.
        candidates: of every query.
        options: for a model that is given by name.
        kept: scores of earlier evaluations, and where to keep these.
        progress: called with the query's number and the time left.

    Raises:
        CrossrankError: the model cannot be used.
    """
    progress("loading")
    with _opened(model, options) as scorer, warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # cutting at the model's length is part of what is measured
        settings = [measured_settings(reranker) for reranker in _rerankers(scorer)]
        digest = digest_of({"stages": _stages(scorer), "models": settings})
        texts = [own.digest() for own in candidates]
        entries = [kept.read(digest, key, len(own.documents)) for own, key in zip(candidates, texts, strict=True)]
        missing = [index for index, entry in enumerate(entries) if entry is None]
        if missing:
            progress("warming up")
            for reranker in _rerankers(scorer):
                reranker.warmup()
        left = _TimeLeft([len(own.query) + sum(map(len, own.documents)) for own in candidates], missing)
        for index in missing:
            progress(f"query {index + 1} of {len(candidates)}{left.text()}")
            started = time.perf_counter()
            scores = _score(scorer, candidates[index])
            entries[index] = entry = QueryScores(scores, time.perf_counter() - started)
            kept.write(digest, texts[index], entry)
            left.finished(index, entry.seconds)
    return ModelScores(
        ", ".join(dict.fromkeys(str(own["precision"]) for own in settings)),
        digest,
        tuple(entry for entry in entries if entry is not None),
        len(candidates) - len(missing),
    )


class _TimeLeft:
    """Seconds that the queries left will take, from the characters a second of those scored."""

    def __init__(self, characters: Sequence[int], missing: Sequence[int]) -> None:
        self._characters = characters
        self._left = sum(characters[index] for index in missing)
        self._done = 0
        self._seconds = 0.0

    def finished(self, index: int, seconds: float) -> None:
        self._left -= self._characters[index]
        self._done += self._characters[index]
        self._seconds += seconds

    def text(self) -> str:
        if not self._done:
            return ""
        seconds = round(self._seconds * self._left / self._done)
        return f", {seconds} s left" if seconds < 100 else f", {round(seconds / 60)} min left"  # noqa: PLR2004


@contextmanager
def _opened(model: Model, options: OpenOptions) -> Iterator[ArtifactReranker | Cascade]:
    """A reranker or cascade as it is; a model by its name, closed at the end."""
    if isinstance(model, ArtifactReranker | Cascade):
        yield model
        return
    with Reranker(
        model,
        provider=options.provider,
        precision=options.precision,
        threads=options.threads,
        max_length=options.max_length,
        activation="identity",  # far from 0 an activation gives different logits one float32
    ) as reranker:
        yield reranker


def _score(scorer: ArtifactReranker | Cascade, own: Candidates) -> npt.NDArray[np.float32]:
    """Scores whose stable descending order is the ranking.

    Scores of a cascade's stages do not compare, so a document's is how many rank below it.
    """
    if isinstance(scorer, ArtifactReranker) and scorer.info().activation == "identity":
        return scorer.score(own.query, own.documents)
    ranking = scorer.rank(own.query, own.documents, return_documents=False)
    for index, reason in ranking.failures.items():
        raise InferenceError(f"documents[{index}] has no score for the query {own.query!r:.100}: {reason}")
    scores = np.empty(len(own.documents), dtype=np.float32)
    falling = np.arange(len(scores))[::-1] if isinstance(scorer, Cascade) else _falling(ranking)
    scores[[item.index for item in ranking]] = falling
    return scores


def _falling(ranking: RankResult) -> list[np.float32]:
    """Scores of a ranking, each below the one before it.

    `rank` goes by logits, which an activation may make the same float32: that one becomes the next lower number.
    """
    falling: list[np.float32] = []
    bound = np.float32(np.inf)
    for item in ranking:
        bound = min(np.float32(item.score), np.nextafter(bound, np.float32(-np.inf)))
        falling.append(bound)
    return falling


def _rerankers(scorer: ArtifactReranker | Cascade) -> tuple[ArtifactReranker, ...]:
    return (scorer,) if isinstance(scorer, ArtifactReranker) else scorer.rerankers


def _stages(scorer: ArtifactReranker | Cascade) -> list[tuple[int | None, int | None]]:
    return [] if isinstance(scorer, ArtifactReranker) else [(stage.keep, stage.max_length) for stage in scorer.stages]
