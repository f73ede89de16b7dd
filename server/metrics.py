"""What Prometheus reads: text-embeddings-inference's names where they fit, crossrank's own for the rest.

With several worker processes every worker writes its numbers to files of a common folder (prometheus_client's
multiprocess mode, `PROMETHEUS_MULTIPROC_DIR`), and whichever worker is asked adds them up.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crossrank.async_reranker import AsyncReranker
    from crossrank.engine.schedule.statistics import BatchObserved

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_PAIRS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_UNSUFFIXED = frozenset({"te_request_count", "te_request_success", "te_request_failure"})
"""Counters that text-embeddings-inference writes without the suffix `_total`."""


class Metrics:
    """The numbers of one process."""

    def __init__(self) -> None:
        """Start at zero."""
        self._several = _FOLDER in os.environ
        self._own = CollectorRegistry()
        registry = self._own
        self.requests = Counter("te_request_count", "Scoring requests.", ["method"], registry=registry)
        self.successes = Counter("te_request_success", "Scoring requests answered.", ["method"], registry=registry)
        self.failures = Counter("te_request_failure", "Scoring requests refused or failed.", ["err"], registry=registry)
        self.durations = Histogram(
            "te_request_duration", "Seconds from a request's head to its answer.", registry=registry, buckets=_SECONDS
        )
        self._batch_sizes = Histogram("te_batch_next_size", "Pairs of a run.", registry=registry, buckets=_PAIRS)
        self._batch_tokens = Histogram("te_batch_next_tokens", "Tokens of a run.", registry=registry, buckets=_TOKENS)
        self._runs = Histogram(
            "te_request_inference_duration", "Seconds of a run.", registry=registry, buckets=_SECONDS
        )
        self._engine = {
            name: Gauge(name, text, registry=registry, multiprocess_mode="livesum")
            for name, text in (
                ("te_queue_size", "Requests of the engine that have no answer yet."),
                ("crossrank_queue_tokens", "Tokens that wait to be scored."),
                ("te_request_queue_duration_sum", "Seconds that requests waited for their first run, all together."),
                ("te_request_queue_duration_count", "Requests that waited for their first run."),
                ("te_request_tokenization_duration_sum", "Seconds that texts of requests were encoded, all together."),
                ("te_request_tokenization_duration_count", "Requests whose texts were encoded."),
                ("crossrank_workers_replaced", "Threads of the engine that died and were replaced."),
            )
        }
        self.in_progress = Gauge(
            "crossrank_requests_in_progress", "Scoring requests.", registry=registry, multiprocess_mode="livesum"
        )
        self.bodies = Gauge(
            "crossrank_bodies_in_progress", "Bodies being read.", registry=registry, multiprocess_mode="livesum"
        )
        self.documents = Counter("crossrank_documents", "Documents scored.", registry=registry)
        self.tokens = Counter("crossrank_tokens", "Tokens read by the model.", registry=registry)
        self.incomplete = Counter(
            "crossrank_incomplete_answers", "Answers in which documents have no score.", ["because"], registry=registry
        )
        self.hung_up = Counter("crossrank_hung_up", "Requests whose client closed its connection.", registry=registry)
        self.responses = Counter("crossrank_responses", "Answers by status.", ["status"], registry=registry)
        self.started = Gauge(
            "crossrank_start_time_seconds", "When this process started.", registry=registry, multiprocess_mode="livemin"
        )
        self.started.set(time.time())

    def observe_batch(self, batch: BatchObserved) -> None:
        """Count a run of the engine; called by its threads."""
        if batch.error is None:
            self._batch_sizes.observe(batch.pairs)
            self._batch_tokens.observe(batch.tokens)
            self._runs.observe(batch.seconds)

    def read_engine(self, rerankers: Sequence[AsyncReranker]) -> None:
        """Take over what the engine counts itself."""
        stats = [reranker.stats() for reranker in rerankers]
        sums = {
            "te_queue_size": sum(one.waiting_requests for one in stats),
            "crossrank_queue_tokens": sum(one.queue_tokens for one in stats),
            "te_request_queue_duration_sum": sum(one.wait.count * one.wait.mean for one in stats),
            "te_request_queue_duration_count": sum(one.wait.count for one in stats),
            "te_request_tokenization_duration_sum": sum(one.encode.count * one.encode.mean for one in stats),
            "te_request_tokenization_duration_count": sum(one.encode.count for one in stats),
            "crossrank_workers_replaced": sum(one.workers_replaced for one in stats),
        }
        for name, value in sums.items():
            self._engine[name].set(value)

    def exposition(self) -> tuple[bytes, str]:
        """The numbers of all worker processes as Prometheus reads them, and the content type."""
        return generate_latest(_Renamed(self._registry())), CONTENT_TYPE_LATEST

    def summary(self) -> dict[str, Any]:
        """In short, for the page at `/`: counts since the start, latency percentiles, what is in progress."""
        values: dict[str, float] = {}
        buckets: dict[float, float] = {}
        by_status: dict[str, float] = {}
        for metric in self._registry().collect():
            for sample in metric.samples:
                if sample.name == "te_request_duration_bucket":
                    bound = float(sample.labels["le"])
                    buckets[bound] = buckets.get(bound, 0.0) + sample.value
                elif sample.name == "crossrank_responses_total":
                    by_status[sample.labels["status"]] = sample.value
                else:
                    values[sample.name] = values.get(sample.name, 0.0) + sample.value
        return {
            "requests": values.get("te_request_count_total", 0.0),
            "answered": values.get("te_request_success_total", 0.0),
            "refused_or_failed": values.get("te_request_failure_total", 0.0),
            "documents": values.get("crossrank_documents_total", 0.0),
            "tokens": values.get("crossrank_tokens_total", 0.0),
            "incomplete": values.get("crossrank_incomplete_answers_total", 0.0),
            "hung_up": values.get("crossrank_hung_up_total", 0.0),
            "in_progress": values.get("crossrank_requests_in_progress", 0.0),
            "queue_requests": values.get("te_queue_size", 0.0),
            "queue_tokens": values.get("crossrank_queue_tokens", 0.0),
            "started": values.get("crossrank_start_time_seconds", 0.0),
            "responses": by_status,
            "latency_seconds": {f"p{share}": _percentile(buckets, share / 100) for share in (50, 95, 99)},
            "latency_buckets": {str(bound): count for bound, count in sorted(buckets.items())},
        }

    def _registry(self) -> CollectorRegistry:
        if not self._several:
            return self._own
        _forget_the_dead(Path(os.environ[_FOLDER]))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry


def _forget_the_dead(folder: Path) -> None:
    """Remove what workers that died said of themselves: requests in progress and the queue ended with them.

    prometheus_client leaves this to whoever starts the workers, which is uvicorn, and that does not know of it.
    """
    for file in folder.glob("gauge_live*_*.db"):
        process = file.stem.rpartition("_")[2]
        if process.isdigit() and not _is_alive(int(process)):
            file.unlink(missing_ok=True)  # another worker may have been asked, too


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":  # where the signal 0 is Ctrl-C, which ends a process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _percentile(buckets: dict[float, float], share: float) -> float | None:
    """From cumulative counts by upper bound, linear within a bucket; None where nothing was counted."""
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    rank, lower, below = share * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (buckets[bound] - below)
        lower, below = bound, buckets[bound]
    return lower


class _Renamed(CollectorRegistry):
    """Another registry's metrics, some counters under text-embeddings-inference's names."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            if metric.name not in _UNSUFFIXED:
                yield metric
                continue
            # Typed as a counter it would get the suffix in its description, and no longer fit its samples.
            renamed = Metric(metric.name, metric.documentation, "unknown")
            renamed.samples = [
                Sample(metric.name, *sample[1:]) for sample in metric.samples if sample.name.endswith("_total")
            ]
            yield renamed
