"""The HTTP service around an engine that does nothing: what is left is what the service itself costs.

python -m crossrank.benchmarks.load.stub_service PORT
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from crossrank.engine.call.results import RankedDocument, RankResult
from crossrank.engine.schedule.statistics import Health, RerankerStats, Statistics
from crossrank.server.app import create_app
from crossrank.server.process import uvicorn_config
from crossrank.server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossrank.async_reranker import AsyncReranker
    from crossrank.server.settings import ModelSettings


class _Nothing:
    """As much of an `AsyncReranker` as the service asks of it."""

    async def rank(self, _query: str, documents: Sequence[object], **_options: object) -> RankResult:
        """Every document scores the same."""
        ranked = tuple(RankedDocument(index, 0.0, None, truncated=False) for index in range(len(documents)))
        return RankResult(ranked, len(ranked), 0, query_truncated=False)

    def info(self) -> Any:
        """For the log."""
        return type("Info", (), {"model": "none", "precision": "fp32", "provider": "cpu", "threads": 1})

    def stats(self) -> RerankerStats:
        """Nothing happened."""
        return Statistics().snapshot(refused=0, waiting=0, queue_tokens=0, time_factor=1.0)

    def health(self) -> Health:
        """Always well."""
        return Health(ok=True, workers=1, workers_wanted=1, workers_replaced=0, last_error=None, closed=False)

    def observe_batches(self, _observer: object) -> None:
        """There are none."""

    async def aclose(self, *, drain: bool = True) -> None:
        """Nothing to close."""


def _open(_settings: ModelSettings, _threads: int) -> AsyncReranker:
    return cast("AsyncReranker", _Nothing())


if __name__ == "__main__":
    chosen = ServerSettings(port=int(sys.argv[1]))
    uvicorn.Server(uvicorn_config(chosen, lambda: create_app(chosen, opener=_open))).run()
