"""Encoded pairs to scores: the loaded graph with its plan, its sessions and its activation.

A scorer belongs to one process. Its sessions are made when it is made, and anew at the first call in a child of
`fork`; they are gone after `close`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.call.candidates import CandidateFinder
from crossrank.engine.call.results import RerankerInfo
from crossrank.engine.call.score_cache import ScoreCache
from crossrank.engine.config import DEFAULT_BATCH_TOKENS
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.plan.grouping import Grouping
from crossrank.engine.plan.shape_grid import ShapeGrid
from crossrank.engine.runtime import calibration
from crossrank.engine.runtime.batch_invariance import usable_batching
from crossrank.engine.runtime.cores import available_cores
from crossrank.engine.runtime.cpu_runner import CpuRunner
from crossrank.engine.runtime.cuda.device_pool import DevicePool
from crossrank.engine.runtime.cuda.grid_runner import GridRunner
from crossrank.engine.runtime.logits import activate, relevance_logits
from crossrank.engine.runtime.onnxruntime_build import load_onnxruntime
from crossrank.engine.runtime.providers import choose_graph, choose_provider, cuda_device_name
from crossrank.engine.schedule.admitted_call import AdmittedCall
from crossrank.engine.schedule.request import wait_for
from crossrank.engine.schedule.scheduler import Scheduler
from crossrank.engine.schedule.time_limit import TimeLimit
from crossrank.engine.text.encoding import PairEncoder
from crossrank.engine.text.windows import as_windows
from crossrank.errors import ClosedError, InvalidInputError, ProviderError
from crossrank.models.artifact import Artifact

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.engine.config import RerankerConfig
    from crossrank.engine.runtime.runner import Runner
    from crossrank.engine.schedule.statistics import BatchObserver, Health, RerankerStats
    from crossrank.engine.text.encoding import EncodedPairs
    from crossrank.models.manifest import Batching, Manifest

_log = logging.getLogger("crossrank")

_DOCUMENTS_AT_ONCE = 256
"""As many as the encoder takes in one piece."""

_alive: weakref.WeakSet[LoadedModel] = weakref.WeakSet()


class LoadedModel:
    """One artifact's graph, ready to score. Calls may come from several threads at once.

    Attributes:
        encoder: the artifact's tokenizer and pair layout.
        finder: finds out what of a call has to be scored.
        documents_at_once: documents that are encoded while others are scored, in calls without a deadline; None where
            encoding and scoring would only compete for the same cores.
    """

    def __init__(self, config: RerankerConfig) -> None:
        """Open and check the artifact, choose provider and graph, load it.

        Raises:
            ArtifactError: the artifact is missing, damaged or foreign.
            InvalidInputError: an option is outside the model's range.
            MissingDependencyError: onnxruntime is not installed.
            PrecisionError: the artifact has no graph of that precision for the provider.
            ProviderError: the provider does not work here.
        """
        self._artifact = Artifact.open(config.artifact)
        manifest = self._artifact.manifest
        if config.max_length is not None and config.max_length > manifest.max_length:
            raise InvalidInputError(
                f"max_length={config.max_length}: this model reads {manifest.max_length} tokens at most"
            )
        self._config = config
        self._resolution = choose_provider(config.provider, config.devices or (0,))
        if config.provider == "auto" and self._resolution.provider == "cpu":
            level = logging.WARNING if self._resolution.surprising else logging.INFO
            _log.log(level, "crossrank scores on the CPU: %s", self._resolution.reason)
        self._graph = choose_graph(self._artifact, self._resolution.provider, config.precision)
        self._artifact.verify([manifest.tokenizer, self._graph.file, *self._graph.external_data])
        sha256 = {record.path: record.sha256 for record in manifest.files}
        self._graph_sha256 = sha256[self._graph.file]
        self._runtime_version: str = load_onnxruntime().__version__
        self._activation = config.activation or manifest.activation
        self._threads = config.threads or available_cores()
        self._max_batch_tokens = config.max_batch_tokens or DEFAULT_BATCH_TOKENS[self._resolution.provider]
        self._device = cuda_device_name(config.devices or (0,)) if self._resolution.provider == "cuda" else None
        # Of a GPU without a name nothing is remembered: it might be taken for another's.
        remembered = (
            None if self._device == "" else calibration.recall(self._graph_sha256, self._runtime_version, self._device)
        )
        self._cost = remembered or CostModel.of(manifest.architecture, self._resolution.provider, self._graph.precision)
        self.encoder = PairEncoder.load(
            self._artifact.path(manifest.tokenizer),
            max_length=config.max_length or manifest.max_length,
            pad_token_id=manifest.pad_token_id,
        )
        self._grid = None if self._device is None else ShapeGrid.of(self.encoder.max_length, self._max_batch_tokens)
        self.documents_at_once = None if self._device is None else _DOCUMENTS_AT_ONCE
        self._loaded_in = os.getpid()
        self._long_documents = config.long_documents
        self._cache = ScoreCache(config.score_cache_bytes) if config.score_cache_bytes else None
        self.finder = CandidateFinder(
            self.encoder,
            encoder_key=f"{sha256[manifest.tokenizer]} {self.encoder.max_length}",
            graph=self._graph_sha256,
            windows=as_windows(config.long_documents),
            cache=self._cache,
        )
        self._closed = False
        self._lock = threading.Lock()
        self._max_queue_tokens = config.max_queue_tokens
        self._max_wait = config.max_wait_ms / 1000
        self._runner: Runner | None = None
        self._scheduler: Scheduler | None = None
        self._batching: Batching | None = None
        self._at_close: tuple[RerankerStats, Health] | None = None
        self._load()
        _alive.add(self)

    def logits(self, pairs: EncodedPairs, limit: TimeLimit | None = None) -> npt.NDArray[np.float32]:
        """Let pairs wait for their runs, and wait for them; an interrupt drops what has not started.

        Args:
            pairs: n pairs of this scorer's encoder.
            limit: the call's time and priority; None for no limit, from now on.

        Returns:
            float32 (n,) in the pairs' order.

        Raises:
            InferenceError: onnxruntime failed.
            DeadlineExceeded: the deadline passed before all pairs were scored.
            Overloaded: more tokens wait than may.
            ClosedError: `close` was called.
        """
        if not len(pairs):  # all known, or nothing asked: no reason to wait
            return np.empty(0, dtype=np.float32)
        scheduler = self.scheduler()
        limit = limit or self.time_limit()
        with AdmittedCall(scheduler, int(pairs.lengths.sum())) as call:
            outcome = wait_for(call.submit(pairs, limit.terms()))
        if outcome.failed:
            raise next(iter(outcome.failed.values())).error
        return self.relevance(outcome.outputs)

    def time_limit(self, deadline_ms: float | None = None, priority: int = 0) -> TimeLimit:
        """Start the clock of a call.

        Raises:
            InvalidInputError: a value is outside its range.
            ClosedError: `close` was called. A call that began before it goes on.
        """
        self.check_open()
        return TimeLimit.of(time.monotonic(), deadline_ms, priority)

    def relevance(self, outputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The model's outputs, float32 (n, labels), to logits, float32 (n,)."""
        return relevance_logits(outputs, self._artifact.manifest.positive_label)

    def activated(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits to scores, float32 (n,) to float32 (n,)."""
        return activate(logits, self._activation)

    def check_open(self) -> None:
        """Raise ClosedError after `close`."""
        if self._closed:
            raise ClosedError("this reranker was closed; make a new one")

    def warmup(self) -> None:
        """Load all sessions and run short and full-length pairs.

        Raises:
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        self._live()[0].load_all()
        encoder, word = self.encoder, "warm"
        longest = " ".join([word] * encoder.max_length)
        # Short and long on all cores, then a long one on every core at once, as much as a run holds.
        for documents in ([word], [longest], [longest] * (2 * self._threads)):
            query_of = np.zeros(len(documents), dtype=np.int64)
            self.logits(encoder.pair([encoder.encode_query(word)], query_of, encoder.encode_documents(documents)))

    def scheduler(self) -> Scheduler:
        """The scheduler of this process.

        Raises:
            ClosedError: `close` was called.
        """
        scheduler = self._scheduler
        return self._live()[1] if scheduler is None else scheduler

    def stats(self) -> RerankerStats:
        """Counts since the model was loaded in this process; also after `close`."""
        return self._at_close[0] if self._at_close else self.scheduler().stats()

    def health(self) -> Health:
        """Whether the threads live; also after `close`."""
        return self._at_close[1] if self._at_close else self.scheduler().health()

    def observe(self, observer: BatchObserver | None) -> None:
        """Call a function with every run in this process; None ends that."""
        self.scheduler().observe(observer)

    def calibrate(self) -> CostModel:
        """Fit the cost model to this machine and remember it.

        Raises:
            InferenceError: onnxruntime failed.
            CacheFolderError: the fit cannot be kept, because its folder is not there or cannot be written; the message
                names the variable that moves it. This reranker plans by the fit all the same.
            ClosedError: `close` was called.
        """
        runner, scheduler = self._live()
        if self._grid is not None:
            self._cost = calibration.fit_device(runner, self._grid)
        else:
            batching = self._batching or self._graph.batching
            self._cost = calibration.fit_cores(runner, batching, self._threads, self.encoder.max_length)
        scheduler.recalibrate(self._cost)
        if self._device != "":
            calibration.remember(self._cost, self._graph_sha256, self._runtime_version, self._device)
        return self._cost

    def info(self) -> RerankerInfo:
        """What runs."""
        return RerankerInfo(
            model=self._artifact.manifest.name,
            artifact=str(self._artifact.folder),
            precision=self._graph.precision,
            provider=self._resolution.provider,
            provider_reason=self._resolution.reason,
            threads=self._threads,
            max_length=self.encoder.max_length,
            max_query_tokens=self.encoder.max_query_tokens,
            cut_query_tokens=self.encoder.cut_query_tokens,
            activation=self._activation,
            batching=self._batching or self._graph.batching,
            max_batch_tokens=self._max_batch_tokens,
            graph_sha256=self._graph_sha256,
            onnxruntime_version=self._runtime_version,
            long_documents=self._long_documents,
            score_cache=None if self._cache is None else self._cache.info(),
            devices=() if self._device is None else tuple(self._config.devices or (0,)),
            cuda_graphs=self._runner.captured() if isinstance(self._runner, DevicePool) else None,
        )

    def close(self, *, drain: bool = True) -> None:
        """End the calls in progress and free the sessions. Closing twice does nothing.

        Args:
            drain: whether calls in progress get their scores; else they get a ClosedError.
        """
        with self._lock:
            runner, self._runner, self._closed = self._runner, None, True
            scheduler = self._scheduler
        if scheduler is not None:
            scheduler.close(drain=drain)
            self._at_close = scheduler.stats(), scheduler.health()
            self._scheduler = None  # it holds the sessions
        if runner is not None:
            runner.close()
        if self._cache is not None:
            self._cache.clear()

    def _live(self) -> tuple[Runner, Scheduler]:
        """Sessions and scheduler, made anew in the child of a fork."""
        runner, scheduler = self._runner, self._scheduler
        if runner is not None and scheduler is not None:
            return runner, scheduler
        with self._lock:
            self.check_open()
            return self._load()

    def _load(self) -> tuple[Runner, Scheduler]:
        if self._runner is None or self._scheduler is None:
            if self._device is not None and os.getpid() != self._loaded_in:
                raise ProviderError(
                    "CUDA cannot be used in a child of fork; start processes with "
                    "multiprocessing.get_context('spawn'), or make the reranker in the child"
                )
            self._runner = _make_runner(
                self._artifact.path(self._graph.file),
                self._artifact.manifest,
                self._config,
                grid=self._grid,
                threads=self._threads,
                exact=self._graph.precision == "int8",
            )
            if self._batching is None:
                self._batching = usable_batching(
                    self._graph.batching, self._artifact.manifest.reference_pairs, self.encoder, self._runner.run
                )
            self._scheduler = Scheduler(
                self._runner,
                self.encoder,
                grouping=Grouping(self._batching, self._cost, self._max_batch_tokens, self._grid),
                max_queue_tokens=self._max_queue_tokens,
                max_wait=self._max_wait,
            )
        return self._runner, self._scheduler

    def forget_after_fork(self) -> None:
        """In a child process: let go of the parent's sessions and threads, which do not exist here."""
        runner, self._runner = self._runner, None
        scheduler, self._scheduler = self._scheduler, None
        self._lock = threading.Lock()
        if scheduler is not None:
            scheduler.abandon_after_fork()
        if runner is not None:
            runner.abandon_after_fork()


def _make_runner(
    path: Path, manifest: Manifest, config: RerankerConfig, *, grid: ShapeGrid | None, threads: int, exact: bool
) -> Runner:
    """Load a graph to run it.

    Args:
        path: the verified ONNX file.
        manifest: of its artifact.
        config: says which GPUs, and how.
        grid: the shapes of runs on GPUs; None for the processor's cores.
        threads: cores.
        exact: whether scores must be the same to the last bit on one core and on all.

    Raises:
        ArtifactError: onnxruntime refuses the graph.
        ProviderError: onnxruntime placed it elsewhere.
    """
    if grid is None:
        return CpuRunner(path, manifest, threads=threads, exact=exact)
    load = partial(
        GridRunner, path, manifest, grid=grid, memory_limit=config.gpu_memory_limit, capture=config.cuda_graphs
    )
    return DevicePool([load(device=device) for device in config.devices or (0,)], manifest.num_labels)


def _after_fork_in_child() -> None:
    for model in list(_alive):
        model.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
