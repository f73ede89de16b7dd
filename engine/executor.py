"""Running batches: which session, which threads, where the scores go.

Cores are used by data: one session whose operators use one thread, shared by several worker threads that each run
other batches. That needs no synchronisation inside operators and one copy of the weights. Where that would leave
cores idle (a single pair, or a few), a second session whose operators use all threads takes over; it is loaded at
first need. A pair's score is the same in both.
"""

from __future__ import annotations

import heapq
import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.session import GraphSession
from crossrank.models.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.engine.encoding import EncodedPairs, PairEncoder, TokenArrays
    from crossrank.engine.planner import Batch
    from crossrank.models.manifest import Manifest, Provider

_OPERATOR_EFFICIENCY = 0.8
"""Share of perfect speed-up that threads inside operators are assumed to reach (not fitted to a machine)."""


class Executor:
    """Sessions and worker threads of one reranker in one process. Calls may come from several threads at once."""

    def __init__(self, path: Path, manifest: Manifest, *, provider: Provider, threads: int) -> None:
        """Load the graph.

        Args:
            path: the verified ONNX file.
            manifest: of its artifact.
            provider: execution provider.
            threads: processor threads for scoring.

        Raises:
            ArtifactError: as `GraphSession`.
            ProviderError: as `GraphSession`.
        """
        self._path = path
        self._manifest = manifest
        self._provider = provider
        self._threads = threads
        self.workers = threads if provider == "cpu" else 1
        self._shared = GraphSession(path, manifest, provider=provider, threads=1, spin=False)
        self._wide: GraphSession | None = None
        self._wide_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="crossrank")

    def run(self, encoder: PairEncoder, pairs: EncodedPairs, batches: Sequence[Batch]) -> npt.NDArray[np.float32]:
        """Score all pairs.

        Args:
            encoder: assembles the batches' arrays.
            pairs: n pairs.
            batches: together hold each pair exactly once; started in this order.

        Returns:
            The model's outputs in the pairs' order, float32 (n, labels).

        Raises:
            InferenceError: a batch failed; batches of this call not yet started are dropped.
            ClosedError: the executor was closed.
        """
        outputs = np.empty((len(pairs), self._manifest.num_labels), dtype=np.float32)

        def score(session: GraphSession, batch: Batch) -> None:
            outputs[batch.indices] = session.run(encoder.assemble(pairs, batch.indices, batch.length))

        if self.workers == 1 or threads_inside_operators([batch.seconds for batch in batches], self.workers):
            session = self._wide_session() if self.workers > 1 else self._shared
            for batch in batches:
                score(session, batch)
        else:
            _finish(self._submit(score, batches))
        return outputs

    def run_one(self, arrays: TokenArrays) -> npt.NDArray[np.float32]:
        """Run one batch as a worker would, in the calling thread; float32 (b, labels).

        Raises:
            InferenceError: onnxruntime failed.
        """
        return self._shared.run(arrays)

    def load_all(self) -> None:
        """Load what would otherwise be loaded at first need."""
        if self.workers > 1:
            self._wide_session()

    def close(self) -> None:
        """Finish what was submitted and stop the worker threads."""
        self._pool.shutdown(wait=True)

    def abandon_after_fork(self) -> None:
        """In a child process: leave the parent's sessions alone, whose threads do not exist here."""
        for session in (self._shared, self._wide):
            if session is not None:
                session.make_immortal()

    def _submit(self, score: Callable[[GraphSession, Batch], None], batches: Sequence[Batch]) -> list[Future[None]]:
        futures: list[Future[None]] = []
        try:
            for batch in batches:
                # Not a comprehension: what was submitted before the pool closed has to be cancelled.
                futures.append(self._pool.submit(score, self._shared, batch))  # noqa: PERF401
        except RuntimeError as error:  # the pool was shut down
            for future in futures:
                future.cancel()
            raise ClosedError("the reranker was closed while it scored; make a new one") from error
        return futures

    def _wide_session(self) -> GraphSession:
        with self._wide_lock:
            if self._wide is None:
                self._wide = GraphSession(
                    self._path, self._manifest, provider=self._provider, threads=self._threads, spin=True
                )
            return self._wide


def threads_inside_operators(seconds: Sequence[float], workers: int) -> bool:
    """Tell whether batches finish sooner one after the other, each on all cores, than shared among workers.

    Args:
        seconds: predicted time of each batch on one core, in the order they start.
        workers: cores.
    """
    finish = [0.0] * workers
    for batch in seconds:
        heapq.heapreplace(finish, finish[0] + batch)
    return sum(seconds) / (workers * _OPERATOR_EFFICIENCY) < max(finish)


def _finish(futures: list[Future[None]]) -> None:
    """Wait for all; at the first failure, or an interrupt of the waiting thread, drop those not yet started."""
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            if future.done():
                future.result()
    finally:
        for future in futures:
            future.cancel()
        wait([future for future in futures if not future.cancelled()])
