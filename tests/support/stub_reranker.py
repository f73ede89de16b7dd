"""An engine that scores at once, by a rule anybody can repeat; it stands in where the service alone is tested."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from crossrank.engine.call.encoded_candidates import DocumentScores
from crossrank.engine.call.results import RankedDocument, RankResult, RerankerInfo
from crossrank.engine.schedule.request import FailedPair
from crossrank.engine.schedule.statistics import Health, RerankerStats, Statistics
from crossrank.errors import InferenceError


def stub_logit(query: str, text: str) -> float:
    """Different for nearly all pairs, and known to whoever knows both texts."""
    return zlib.crc32(f"{query}\0{text}".encode()) / 2**31 - 1.0


@dataclass
class StubReranker:
    """As much of an `AsyncReranker` as the service uses.

    Attributes:
        fault: called with the query before it is answered; may raise, or return seconds to wait.
        unscored: positions that get no score, because of `because`.
    """

    fault: object = None
    unscored: tuple[int, ...] = ()
    because: str = "deadline"

    def __post_init__(self) -> None:
        self.calls = []
        self.cancelled = 0
        self.running = 0

    async def rank(self, query, documents, top_k=None, return_documents=True, **options):
        self.calls.append(SimpleNamespace(query=query, documents=documents, **options))
        self.running += 1
        try:
            seconds = self.fault(query) if self.fault else None
            if seconds:
                await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return self.ranking(query, documents, return_documents, self.unscored, self.because)

    async def pair_scores(self, pairs, **options):
        pairs = list(pairs)
        self.calls.append(SimpleNamespace(pairs=pairs, **options))
        seconds = self.fault(pairs[0][0]) if self.fault and pairs else None
        if seconds:
            await asyncio.sleep(seconds)
        failed = self.unscored if self.because == "failed" else ()
        return DocumentScores(
            np.asarray([stub_logit(*pair) for pair in pairs], dtype=np.float32),
            np.asarray([index not in self.unscored for index in range(len(pairs))], dtype=np.bool_),
            np.zeros(len(pairs), dtype=np.bool_),
            [None] * len(pairs),
            False,
            np.asarray([len(document) for _, document in pairs], dtype=np.int64),
            {index: FailedPair(InferenceError("not a number"), in_run=False) for index in failed},
        )

    async def aiter_rank(self, query, documents, top_k=None, return_documents=True, **options):
        self.calls.append(SimpleNamespace(query=query, documents=documents, **options))
        half = tuple(range(len(documents) // 2, len(documents)))
        yield self.ranking(query, documents, return_documents, half, "pending")
        seconds = self.fault(query) if self.fault else None
        try:
            if seconds:
                await asyncio.sleep(seconds)
        finally:
            self.cancelled += 1  # closed early, or read to its end
        yield self.ranking(query, documents, return_documents, self.unscored, self.because)

    def ranking(self, query, documents, return_documents, unscored, because) -> RankResult:
        texts = [document if isinstance(document, str) else document["text"] for document in documents]
        scored = sorted(
            ((-stub_logit(query, text), index) for index, text in enumerate(texts) if index not in unscored)
        )
        ranked = [
            RankedDocument(index, -score, documents[index] if return_documents else None, truncated=False)
            for score, index in scored
        ]
        rest = [RankedDocument(index, None, None, False, unscored_because=because) for index in unscored]
        failures = dict.fromkeys(unscored, "not a number") if because == "failed" else {}
        return RankResult(
            (*ranked, *rest),
            len(ranked),
            0,
            False,
            unscored,
            because if unscored else None,
            failures,
            tokens=sum(map(len, texts)),
        )

    def info(self) -> RerankerInfo:
        return RerankerInfo(
            "stub", "", "fp32", "cpu", "stub", 1, 512, 500, 250, "identity", "padded", 512, "0" * 64, "0"
        )

    def stats(self) -> RerankerStats:
        return Statistics().snapshot(refused=0, waiting=self.running, queue_tokens=0, time_factor=1.0)

    def health(self) -> Health:
        return Health(True, 1, 1, 0, None, False)

    def observe_batches(self, observer) -> None:
        pass

    async def aclose(self, *, drain: bool = True) -> None:
        pass


def stub_opener(stub: StubReranker):
    """For `create_app`: every model is this one."""
    return lambda settings, threads: stub
