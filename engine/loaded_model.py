"""What scoring needs of a model: the loaded graph with its plan, its sessions and its activation.

It belongs to one process. Its sessions are made when it is made, and anew at the first call in a child of
`fork`; they are gone after `close`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from crossrank.engine import process
from crossrank.engine.call.candidates import CandidateFinder
from crossrank.engine.call.results import RerankerInfo
from crossrank.engine.call.score_cache import ScoreCache
from crossrank.engine.config import DEFAULT_BATCH_TOKENS
from crossrank.engine.plan.batch_kinds import KINDS, BatchKind, GridShapes
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.plan.shape_grid import ShapeGrid
from crossrank.engine.runtime import calibration
from crossrank.engine.runtime.batch_invariance import usable_kind
from crossrank.engine.runtime.cores import available_cores
from crossrank.engine.runtime.cpu_runner import CpuRunner
from crossrank.engine.runtime.cuda.device_pool import DevicePool
from crossrank.engine.runtime.cuda.grid_runner import GridRunner
from crossrank.engine.runtime.logits import activate, relevance_logits
from crossrank.engine.runtime.onnxruntime_build import load_onnxruntime
from crossrank.engine.runtime.providers import choose_graph, choose_provider, cuda_device_name
from crossrank.engine.schedule.scheduler import Scheduler
from crossrank.engine.schedule.statistics import NOTHING_LOADED
from crossrank.engine.schedule.time_limit import TimeLimit
from crossrank.engine.text.encoding import PairEncoder
from crossrank.engine.text.windows import as_windows
from crossrank.errors import ClosedError, InvalidInputError, ProviderError
from crossrank.models.artifact import Artifact

if TYPE_CHECKING:
    from crossrank.engine.config import RerankerConfig
    from crossrank.engine.runtime.runner import Runner
    from crossrank.engine.schedule.statistics import BatchObserver, Health, RerankerStats
    from crossrank.models.manifest import Template

_log = logging.getLogger("crossrank")

_DOCUMENTS_AT_ONCE = 256
"""As many as the encoder takes in one piece."""


class _Live(NamedTuple):
    """What a model has in one process."""

    runner: Runner
    scheduler: Scheduler


class LoadedModel:
    """One artifact's graph, ready to score. Calls may come from several threads at once.

    Attributes:
        encoder: the artifact's tokenizer and pair layout.
        finder: finds out what of a call has to be scored.
        relevance: the model's outputs, float32 (n, labels), to logits, float32 (n,).
        activated: logits to scores, float32 (n,) to float32 (n,).
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
        self._artifact = Artifact.open(Path(config.artifact))
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
        self.relevance = partial(relevance_logits, positive_label=manifest.positive_label)
        self.activated = partial(activate, activation=self._activation)
        self._threads = config.threads or available_cores()
        self._max_batch_tokens = config.max_batch_tokens or DEFAULT_BATCH_TOKENS[self._resolution.provider]
        self._device = cuda_device_name(config.devices or (0,)) if self._resolution.provider == "cuda" else None
        # Of a GPU without a name nothing is remembered: it might be taken for another's.
        remembered = (
            None if self._device == "" else calibration.recall(self._graph_sha256, self._runtime_version, self._device)
        )
        cost = remembered or CostModel.of(manifest.architecture, self._resolution.provider, self._graph.precision)
        self.encoder = PairEncoder.load(
            self._artifact.path(manifest.tokenizer),
            max_length=config.max_length or manifest.max_length,
            pad_token_id=manifest.pad_token_id,
            template=manifest.template,
            causal=manifest.causal,
            longest_first=config.truncation == "longest_first",
        )
        self.encoder.check_instruction(config.instruction)
        _check_template(config, manifest.template)
        self._grid = None if self._device is None else ShapeGrid.of(self.encoder.max_length, self._max_batch_tokens)
        kind = KINDS[self._graph.batching]
        self._kind: BatchKind = (
            GridShapes(cost, self._max_batch_tokens, self._grid)
            if self._grid is not None and kind.pads
            else kind(cost, self._max_batch_tokens)
        )
        self.documents_at_once = None if self._device is None else _DOCUMENTS_AT_ONCE
        self._loaded_in = os.getpid()
        self._long_documents = config.long_documents
        self._cache = ScoreCache(config.score_cache_bytes) if config.score_cache_bytes else None
        # How much of a document is kept depends on the tokens of the text around it as well.
        room = f"{self.encoder.max_length} {self.encoder.text_tokens}"
        reading = f"{room} {config.truncation} {self.encoder.texts.before_document!r}"
        self.finder = CandidateFinder(
            self.encoder,
            encoder_key=f"{sha256[manifest.tokenizer]} {reading}",
            instruction=config.instruction,
            graph=self._graph_sha256,
            windows=as_windows(config.long_documents),
            cache=self._cache,
        )
        self._closed = False
        self._lock = threading.Lock()
        self._max_queue_tokens = config.max_queue_tokens
        self._max_wait = config.max_wait_ms / 1000
        self._live: _Live | None = None
        self._at_close: tuple[RerankerStats, Health] | None = None
        self._ready()
        process.bind(self)

    def time_limit(self, deadline_ms: float | None = None, priority: int = 0) -> TimeLimit:
        """Start the clock of a call.

        Raises:
            InvalidInputError: a value is outside its range.
            ClosedError: `close` was called. A call that began before it goes on.
        """
        self.check_open()
        return TimeLimit.of(time.monotonic(), deadline_ms, priority)

    def check_open(self) -> None:
        """Raise ClosedError after `close`."""
        if self._closed:
            raise ClosedError("this reranker was closed; make a new one")

    def load_all(self) -> None:
        """Load all sessions, also those that no call has needed yet.

        Raises:
            ClosedError: `close` was called.
        """
        self._ready().runner.load_all()

    def scheduler(self) -> Scheduler:
        """The scheduler of this process.

        Raises:
            ClosedError: `close` was called.
        """
        return self._ready().scheduler

    def stats(self) -> RerankerStats:
        """Counts since the model was loaded in this process; also after `close`."""
        with contextlib.suppress(ClosedError):
            return self._at_close[0] if self._at_close else self.scheduler().stats()
        return (self._at_close or NOTHING_LOADED)[0]  # another thread closed it at this moment

    def health(self) -> Health:
        """Whether the threads live; also after `close`."""
        with contextlib.suppress(ClosedError):
            return self._at_close[1] if self._at_close else self.scheduler().health()
        return (self._at_close or NOTHING_LOADED)[1]

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
        runner, scheduler = self._ready()
        cost = calibration.fit(runner, self._kind, self.encoder.max_length)
        self._kind = replace(self._kind, cost=cost)
        scheduler.recalibrate(cost)
        if self._device != "":
            calibration.remember(cost, self._graph_sha256, self._runtime_version, self._device)
        return cost

    def info(self) -> RerankerInfo:
        """What runs."""
        runner = self._live.runner if self._live else None
        template = self._artifact.manifest.template
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
            batching=self._kind.name,
            max_batch_tokens=self._max_batch_tokens,
            graph_sha256=self._graph_sha256,
            onnxruntime_version=self._runtime_version,
            long_documents=self._long_documents,
            score_cache=None if self._cache is None else self._cache.info(),
            devices=() if self._device is None else tuple(self._config.devices or (0,)),
            cuda_graphs=runner.captured() if isinstance(runner, DevicePool) else None,
            instruction=self._config.instruction or (template.instruction if template else None),
        )

    def description(self) -> str:
        """What runs in a few words, for people."""
        threads = "1 thread" if self._threads == 1 else f"{self._threads} threads"
        return (
            f"{self._artifact.manifest.name!r} {self._graph.precision} on {self._resolution.provider}, {threads}, "
            f"{self.encoder.max_length} tokens a pair{', closed' if self._closed else ''}"
        )

    def close(self, *, drain: bool = True) -> None:
        """End the calls in progress and free the sessions. Closing twice does nothing.

        Args:
            drain: whether calls in progress get their scores; else they get a ClosedError.
        """
        with self._lock:
            self._closed = True
            live = self._live
        if live is not None:
            live.scheduler.close(drain=drain)
            self._at_close = live.scheduler.stats(), live.scheduler.health()
            self._live = None  # it holds the sessions
        elif self._at_close is None:  # in a child of fork, before its first call
            self._at_close = NOTHING_LOADED
        if self._cache is not None:
            self._cache.clear()

    def forget_after_fork(self) -> None:
        """In a child process: let go of the parent's sessions and threads, which do not exist here."""
        live, self._live = self._live, None
        self._lock = threading.Lock()
        if live is not None:
            live.runner.leak()

    def _ready(self) -> _Live:
        """Sessions and scheduler, made anew in the child of a fork."""
        live = self._live
        if live is None:
            with self._lock:
                self.check_open()
                live = self._live = self._live or self._load()
        return live

    def _load(self) -> _Live:
        if self._device is not None and os.getpid() != self._loaded_in:
            raise ProviderError(
                "CUDA cannot be used in a child of fork; start processes with "
                "multiprocessing.get_context('spawn'), or make the reranker in the child"
            )
        path, manifest, config = self._artifact.path(self._graph.file), self._artifact.manifest, self._config
        runner: Runner
        if self._grid is None:
            runner = CpuRunner(path, manifest, threads=self._threads, exact=self._graph.precision == "int8")
        else:
            load = partial(GridRunner, path, manifest, grid=self._grid, memory_limit=config.gpu_memory_limit)
            devices = [load(device=device, capture=config.cuda_graphs) for device in config.devices or (0,)]
            runner = DevicePool(devices, manifest.num_labels)
        self._kind = usable_kind(
            self._kind, manifest.reference_pairs, self.encoder, lambda arrays: runner.run(arrays).outputs
        )
        scheduler = Scheduler(
            runner, self.encoder, kind=self._kind, max_queue_tokens=self._max_queue_tokens, max_wait=self._max_wait
        )
        return _Live(runner, scheduler)


def _check_template(config: RerankerConfig, template: Template | None) -> None:
    """Refuse options that would cut a model's template apart."""
    if template is None:
        return
    if config.truncation == "longest_first":
        raise InvalidInputError(
            f"truncation={config.truncation!r}: this model expects text after the query, which would be cut away with "
            f"it; leave truncation out, and long documents are cut"
        )
    before = template.document.removesuffix("{document}")
    if config.long_documents != "truncate" and before.strip():
        raise InvalidInputError(
            f"long_documents={config.long_documents!r}: this model expects the text {before!r} directly before a "
            f"document, tokenized together with it, and a later window has none before it; leave windows out"
        )
