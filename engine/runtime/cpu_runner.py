"""The two sessions of one graph on the CPU: one core per run, or all cores per run.

Usually each core runs a batch of its own: worker threads share one session whose operators use one thread. That needs
no synchronisation inside operators and only one copy of the weights. Where it would leave cores idle (a single pair, or
a few), a second session is used whose operators use all threads; it is loaded at its first use. A pair's score is the
same in both. Where it must be the same to the last bit, this is checked when the second session is loaded, and on a
processor that fails the check every run uses one core.

The scheduler decides what runs when, and on which of the two (`run_queue.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from crossrank.engine import process
from crossrank.engine.runtime.batch_invariance import scores_ignore_threads
from crossrank.engine.runtime.causal_session import open_graph
from crossrank.engine.runtime.runner import RunResult
from crossrank.errors import ClosedError

if TYPE_CHECKING:
    from pathlib import Path

    from crossrank.engine.runtime.causal_session import CausalSession
    from crossrank.engine.runtime.runner import RunBatch
    from crossrank.engine.runtime.session import GraphSession
    from crossrank.engine.text.encoded import TokenArrays
    from crossrank.models.manifest import Manifest

_log = logging.getLogger("crossrank")


class CpuRunner:
    """Sessions of one reranker in one process. Runs may come from several threads at once.

    Attributes:
        processors: cores, each of which runs a batch.
        workers: one for each core.
        labels: columns of the outputs.
    """

    def __init__(self, path: Path, manifest: Manifest, *, threads: int, exact: bool = False) -> None:
        """Load the graph.

        Args:
            path: the verified ONNX file.
            manifest: of its artifact.
            threads: processor threads for scoring.
            exact: whether scores must be the same to the last bit on one core and on all.

        Raises:
            ArtifactError: as `GraphSession`.
            ProviderError: as `GraphSession`.
        """
        self._path = path
        self._manifest = manifest
        self._exact = exact
        self.workers = self.processors = threads
        self.labels = manifest.num_labels
        self._shared: GraphSession | CausalSession | None = open_graph(path, manifest, threads=1, spin=False)
        self._all_cores: GraphSession | CausalSession | None = None
        self._all_cores_lock = threading.Lock()

    @property
    def run_on_all_cores(self) -> RunBatch | None:
        """Runs on the session whose operators use all cores, which is loaded at its first use; None with one core."""
        return self._run_on_all_cores if self.processors > 1 else None

    def run(self, arrays: TokenArrays) -> RunResult:
        """Run one batch on one core, in the calling thread.

        Args:
            arrays: int64 (b, length).

        Raises:
            InferenceError: onnxruntime failed, or returned NaN or infinity.
            ClosedError: `close` was called.
        """
        return _timed(self._open_session(), arrays)

    def load_all(self) -> None:
        """Load the session for all cores now instead of at its first use."""
        if self.processors > 1:
            self._all_cores_session()

    def close(self) -> None:
        """Free the sessions; a run in progress keeps its own until it ends."""
        self._shared = self._all_cores = None

    def leak(self) -> None:
        """In a child of `fork`: never destroy the parent's sessions, because their threads do not exist here."""
        process.leak((self._shared, self._all_cores))

    def _run_on_all_cores(self, arrays: TokenArrays) -> RunResult:
        return _timed(self._all_cores_session(), arrays)

    def _open_session(self) -> GraphSession | CausalSession:
        if self._shared is None:
            raise ClosedError("this session was closed; make a new reranker")
        return self._shared

    def _all_cores_session(self) -> GraphSession | CausalSession:
        with self._all_cores_lock:
            shared = self._open_session()
            if self._all_cores is None:
                session = open_graph(self._path, self._manifest, threads=self.processors, spin=True)
                if self._exact and not scores_ignore_threads(shared.run, session.run, self._manifest.max_length):
                    _log.warning("runs on %d threads may round otherwise; each run keeps to one core", self.processors)
                    session = shared
                self._all_cores = session
            return self._all_cores


def _timed(session: GraphSession | CausalSession, arrays: TokenArrays) -> RunResult:
    started = time.perf_counter()
    return RunResult(session.run(arrays), time.perf_counter() - started)
