"""Scores blocks of pairs, several at a time, each in one call of the engine."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from crossrank.engine.call.arguments import Caller
from crossrank.engine.call.calls import pairs_call
from crossrank.engine.call.drivers import wait_in_thread
from crossrank.engine.runtime.providers import cuda_device_name
from crossrank.engine.score_settings import score_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from crossrank.engine.artifact_reranker import ArtifactReranker
    from crossrank.engine.call.call_steps import Call


@dataclass(frozen=True)
class PairScores:
    """What scoring some pairs gave.

    Attributes:
        scores: float32 (n,), NaN for pairs without a score.
        failed: why they have none, by their indices.
        truncated: how many pairs were not read to their end.
        tokens: that the model read.
    """

    scores: npt.NDArray[np.float32]
    failed: Mapping[int, str]
    truncated: int
    tokens: int


class PairScorer(Protocol):
    """What a job needs of a model."""

    def model(self) -> dict[str, Any]:
        """All that decides what the scores are, for JSON."""

    def devices(self) -> str | None:
        """The GPUs that score, by name; None on the processor."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> PairScores:
        """Score (query, document) pairs; called from several threads."""

    def cancel(self) -> None:
        """End the calls in progress soon; they raise `CancelledError`, and so do later ones."""


class RerankerScorer:
    """Scores with a reranker."""

    def __init__(self, reranker: ArtifactReranker) -> None:
        self._reranker = reranker
        self._calls: set[Call[Any]] = set()
        self._cancelled = False

    def model(self) -> dict[str, Any]:
        """All that decides what the scores are, and the model's name for messages."""
        return {"name": self._reranker.info().model, **score_settings(self._reranker)}

    def devices(self) -> str | None:
        """The GPUs that score, by name and number; None on the processor. Not run on a GPU yet."""
        info = self._reranker.info()
        return cuda_device_name(info.devices) if info.provider == "cuda" else None

    def score(self, pairs: Sequence[tuple[str, str]]) -> PairScores:
        """Score pairs as `score_pairs` does, and keep what it leaves out: what was cut, what failed and why.

        Raises:
            CancelledError: `cancel` was called.
            CrossrankError: as `score_pairs`, except for pairs that fail by themselves.
        """
        if not pairs:
            return PairScores(np.empty(0, dtype=np.float32), {}, 0, 0)
        loaded = self._reranker.loaded_model
        call = pairs_call(Caller(loaded, loaded.scheduler(), loaded.time_limit()), pairs)
        self._calls.add(call)
        try:
            if self._cancelled:
                raise CancelledError
            found = wait_in_thread(call.scores(), call.encoders)
        finally:
            self._calls.discard(call)
        scores = self._reranker.activated(found.logits).astype(np.float32)
        scores[~found.scored] = np.nan
        failed = {index: str(failure.error) for index, failure in found.failed.items()}
        return PairScores(scores, failed, int(found.truncated[found.scored].sum()), int(found.tokens.sum()))

    def cancel(self) -> None:
        """End the calls in progress; to be called again until they have ended, since one may be encoding."""
        self._cancelled = True
        for call in list(self._calls):
            call.cancel()
