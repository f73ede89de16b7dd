"""The sessions of one graph on the CPU, and which of them a run takes.

Cores are used by data: one session whose operators use one thread, shared by several worker threads that each run
other batches. That needs no synchronisation inside operators and one copy of the weights. Where that would leave
cores idle (a single pair, or a few), a second session whose operators use all threads takes over; it is loaded at
first need. A pair's score is the same in both; where it must be so to the last bit, that is tried when the second is
loaded, and a processor on which it is not does without.

What runs when, and on which of the two, is the scheduler's choice (`scheduler.py`).
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
        workers: cores.
        processors: the same.
        splits_runs: whether a run may take all cores: there are several.
        labels: columns of the outputs.
        typical: runs take what such runs take.
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
        """Load the session at its first need; otherwise nothing to wait for: there are as many workers as cores.

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
            all_cores: on all cores instead of one; with one worker it is the same.

        Returns:
            float32 (b, labels).

        Raises:
            InferenceError: onnxruntime failed.
        """
        session = self._all_cores_session() if all_cores and self.splits_runs else self._shared
        return session.run(arrays)

    def load_all(self) -> None:
        """Load what would otherwise be loaded at first need."""
        if self.splits_runs:
            self._all_cores_session()

    def close(self) -> None:
        """Nothing to do: sessions are freed with this object, in any thread."""

    def abandon_after_fork(self) -> None:
        """In a child process: leave the parent's sessions alone, whose threads do not exist here."""
        for session in (self._shared, self._all_cores):
            if session is not None:
                session.leak()

    def _all_cores_session(self) -> GraphSession:
        with self._all_cores_lock:
            if self._all_cores is None:
                several = GraphSession(self._path, self._manifest, threads=self._threads, spin=True)
                if self._exact and not scores_ignore_threads(self._shared.run, several.run, self._manifest.max_length):
                    _log.warning("runs on %d threads may round otherwise; each run keeps to one core", self._threads)
                    several = self._shared
                self._all_cores = several
            return self._all_cores
