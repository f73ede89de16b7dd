"""The two sessions of one graph on the CPU: one core per run, or all cores per run.

Usually each core runs a batch of its own: worker threads share one session whose operators use one thread. That needs
no synchronisation inside operators and only one copy of the weights. Where it would leave cores idle (a single pair, or
a few), a second session is used whose operators use all threads; it is loaded at its first use. A pair's score is the
same in both. Where it must be the same to the last bit, this is checked when the second session is loaded, and on a
processor that fails the check every run uses one core.

The scheduler decides what runs when, and on which of the two (`scheduler.py`).
"""

from __future__ import annotations

import logging
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

from crossrank.engine.runtime.batch_invariance import scores_ignore_threads
from crossrank.engine.runtime.session import GraphSession

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.text.encoding import TokenArrays
    from crossrank.models.manifest import Manifest

_log = logging.getLogger("crossrank")


class CpuRunner:
    """Sessions of one reranker in one process. Runs may come from several threads at once.

    Attributes:
        workers: number of cores, and so of worker threads.
        processors: how many runs execute at once: one per core.
        splits_runs: whether there are several cores.
        labels: columns of the outputs.
        typical: always true; see `BatchRunner.typical`.
    """

    typical = True

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
        self._threads = threads
        self._exact = exact
        self.workers = self.processors = threads
        self.splits_runs = threads > 1
        self.labels = manifest.num_labels
        self._shared = GraphSession(path, manifest, threads=1, spin=False)
        self._all_cores: GraphSession | None = None
        self._all_cores_lock = threading.Lock()

    def turn(self, *, all_cores: bool = False) -> AbstractContextManager[CpuRunner]:
        """Load the session for all cores at its first use. Nothing waits: there are as many workers as cores.

        Args:
            all_cores: whether the run takes all cores.

        Raises:
            ArtifactError: onnxruntime refuses the graph.
            ProviderError: onnxruntime placed it elsewhere.
        """
        if all_cores and self.splits_runs:
            self._all_cores_session()
        return nullcontext(self)

    def run(self, arrays: TokenArrays, *, all_cores: bool = False) -> npt.NDArray[np.float32]:
        """Run one batch in the calling thread.

        Args:
            arrays: int64 (b, length).
            all_cores: run on all cores instead of one; makes no difference with one worker.

        Returns:
            float32 (b, labels).

        Raises:
            InferenceError: onnxruntime failed.
        """
        session = self._all_cores_session() if all_cores and self.splits_runs else self._shared
        return session.run(arrays)

    def load_all(self) -> None:
        """Load the session for all cores now instead of at its first use."""
        if self.splits_runs:
            self._all_cores_session()

    def close(self) -> None:
        """Do nothing: sessions are freed with this object, in any thread."""

    def abandon_after_fork(self) -> None:
        """In a forked child: never destroy the parent's sessions, because their threads do not exist here."""
        for session in (self._shared, self._all_cores):
            if session is not None:
                session.leak()

    def _all_cores_session(self) -> GraphSession:
        with self._all_cores_lock:
            if self._all_cores is None:
                session = GraphSession(self._path, self._manifest, threads=self._threads, spin=True)
                if self._exact and not scores_ignore_threads(self._shared.run, session.run, self._manifest.max_length):
                    _log.warning("runs on %d threads may round otherwise; each run keeps to one core", self._threads)
                    session = self._shared
                self._all_cores = session
            return self._all_cores
