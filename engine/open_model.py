"""An open model as its user holds it, apart from scoring: what runs, how it fares, its end, its copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.engine.closing import ClosedOnLeaving
from crossrank.engine.config import RerankerConfig, with_parameters_of
from crossrank.engine.loaded_model import LoadedModel

if TYPE_CHECKING:
    from pathlib import Path

    from crossrank.engine.call.results import RerankerInfo
    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.schedule.statistics import BatchObserver, Health, RerankerStats


class OpenModel(ClosedOnLeaving):
    """The graph of one artifact, loaded until it is closed. Pickles as its configuration."""

    @with_parameters_of(RerankerConfig.__init__)
    def __init__(self, artifact: str | Path, **options: Any) -> None:
        """Open an artifact and load its graph; `RerankerConfig` says what the options are.

        Raises:
            ArtifactError: the artifact is missing, damaged or foreign.
            InvalidInputError: an option is outside its range.
            MissingDependencyError: onnxruntime is not installed.
            PrecisionError: the artifact has no graph of that precision for the provider.
            ProviderError: the provider does not work here.
        """
        self._open(RerankerConfig(artifact, **options))

    def _open(self, config: RerankerConfig) -> None:
        self._config = config
        self._loaded = LoadedModel(config)

    def info(self) -> RerankerInfo:
        """What runs: model, graph, provider and why, limits, versions."""
        return self._loaded.info()

    def calibrate(self) -> CostModel:
        """Fit the cost model that plans batches to this machine, and remember it for later rerankers.

        Takes about a second for a small model on an idle machine. It changes how fast scores come, not what they are.

        Raises:
            InferenceError: onnxruntime failed.
            CacheFolderError: the fit cannot be kept, because its folder is not there or cannot be written; the message
                names the variable that moves it. This reranker plans by the fit all the same.
            ClosedError: `close` was called.
        """
        return self._loaded.calibrate()

    def stats(self) -> RerankerStats:
        """Requests, failures, waiting and run times, batch sizes, since the model was loaded in this process."""
        return self._loaded.stats()

    def health(self) -> Health:
        """Whether its threads live and it is open; cheap, for a health check."""
        return self._loaded.health()

    def observe_batches(self, observer: BatchObserver | None) -> None:
        """Call a function with every run in this process, for metrics; None ends that.

        It is called from the threads that run batches, so it should be quick. If it raises, it is not called again.

        Args:
            observer: takes a `BatchObserved`; takes the place of an observer given before.

        Raises:
            ClosedError: `close` was called.
        """
        self._loaded.observe(observer)

    def close(self, *, drain: bool = True) -> None:
        """End the calls in progress and free the sessions. Closing twice does nothing.

        Args:
            drain: whether calls in progress get their scores; else they get a ClosedError.
        """
        self._loaded.close(drain=drain)

    def __repr__(self) -> str:
        """One line: what runs, where, and whether it is closed."""
        loaded = getattr(self, "_loaded", None)
        return f"<{type(self).__name__} {'not loaded' if loaded is None else loaded.description()}>"

    def __getstate__(self) -> object:
        """Pickle as the configuration: a session does not travel, the configuration does."""
        return self._config

    def __setstate__(self, state: Any) -> None:
        """Open the artifact again where the pickle is read."""
        self._open(state)

    @property
    def loaded_model(self) -> LoadedModel:
        """What scores encoded pairs."""
        return self._loaded
