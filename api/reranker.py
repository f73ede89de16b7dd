"""`Reranker`: finds a model by name, exports it if necessary, and scores with it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.config import RerankerConfig
from crossrank.resolve import absolute_model, resolve_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.engine.text.windows import LongDocuments
    from crossrank.models.manifest import Activation, PrecisionChoice, ProviderChoice


class Reranker(ArtifactReranker):
    """Scores and ranks documents for a query with a cross-encoder.

    Examples:
        >>> from crossrank import Reranker
        >>> with Reranker() as reranker:
        ...     ranking = reranker.rank("how do vaccines work", ["They train immune cells.", "Stocks fell."])
        >>> ranking[0].index
        0
    """

    def __init__(  # noqa: PLR0913  one parameter an option
        self,
        model: str | Path = "default",
        *,
        provider: ProviderChoice = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        max_length: int | None = None,
        activation: Activation | None = None,
        max_batch_tokens: int | None = None,
        max_queue_tokens: int | None = None,
        max_wait_ms: float = 0.0,
        long_documents: LongDocuments = "truncate",
        score_cache_bytes: int | None = None,
        devices: Sequence[int] | None = None,
        gpu_memory_limit: int | None = None,
        cuda_graphs: bool = True,
        instruction: str | None = None,
        revision: str | None = None,
        file: str | None = None,
        positive_label: int | str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        """Find the model, export its checkpoint or ready ONNX file if there is no export of it yet, and load it.

        Args:
            model: 'default' or 'default-small' (embedded), an artifact folder, a checkpoint folder, a catalogue name
                ('crossrank models' lists them), or a hub id. Only the last two may be fetched, and only if no
                export of the model is cached.
            provider: 'auto', 'cpu' or 'cuda'.
            precision: 'auto', 'fp32', 'fp16' or 'int8'; 'auto' takes int8 on the CPU if available, fp16 on CUDA.
            threads: processor threads for scoring; None takes the cores available to the process.
            max_length: tokens of a pair, special tokens included; None takes the model's maximum.
            activation: 'identity' or 'sigmoid'; None takes the model's.
            max_batch_tokens: padded tokens of one run at most, which bounds memory; None takes the provider's default.
            max_queue_tokens: tokens of all callers that may wait at most; None sets no bound: each waiting caller
                is a thread, so the number of threads is a bound.
            max_wait_ms: how long an idle engine waits for other requests to share its first run, if runs can be shared;
                not while a call with a deadline waits.
            long_documents: 'truncate' reads the beginning of documents that are too long for the model, 'windows' reads
                all of them, window by window; `Windows` sets their size, stride, number and aggregation.
            score_cache_bytes: size of the score cache in bytes; with it the same query and text are scored once. None
                turns it off.
            devices: numbers of the GPUs that share the work, as CUDA counts them; None takes the first. This and
                the next two options are for CUDA only. Not run on a GPU yet.
            gpu_memory_limit: bytes onnxruntime's arena may take on each GPU; None sets no limit.
            cuda_graphs: whether each shape is captured once as a CUDA graph and replayed, which saves kernel launches.
            instruction: what documents are judged by, for models that take an instruction, such as Qwen3-Reranker; None
                takes the model's own.
            revision: branch, tag or commit of a hub repository; a branch stays the commit that was fetched first.
            file: a ready ONNX file of the model to take instead of its checkpoint, by its path in the repository or
                folder, such as "onnx/model.onnx". None takes the checkpoint where torch is installed, and otherwise the
                usual file. A quantized file is taken as it is.
            positive_label: name or index of the label whose softmax probability is the score, for models of several
                labels, such as "entailment"; None takes the one that the model says, where it says one.
            trust_remote_code: allow code that comes with a checkpoint to run during its export.

        Raises:
            ModelNotFoundError: there is no model of that name, or it is neither cached nor reachable.
            ExportError: the checkpoint could not be exported.
            ArtifactError: the artifact is damaged or not one of crossrank's.
            InvalidInputError: an option is outside its range.
            MissingDependencyError: onnxruntime, or for an export its extra, is not installed.
            PrecisionError: the artifact has no graph of that precision for the provider.
            ProviderError: the provider does not work here.
        """
        # Check the options before resolving the model, which may take minutes for an export.
        config = RerankerConfig(
            artifact="",
            provider=provider,
            precision=precision,
            threads=threads,
            max_length=max_length,
            activation=activation,
            max_batch_tokens=max_batch_tokens,
            max_queue_tokens=max_queue_tokens,
            max_wait_ms=max_wait_ms,
            long_documents=long_documents,
            score_cache_bytes=score_cache_bytes,
            devices=devices,
            gpu_memory_limit=gpu_memory_limit,
            cuda_graphs=cuda_graphs,
            instruction=instruction,
        )
        self._model = absolute_model(model)
        self._revision = revision
        self._file = file
        self._positive_label = positive_label
        self._trust_remote_code = trust_remote_code
        self._find_and_open(config)

    def __getstate__(self) -> object:
        """Pickle as the configuration: the model is found again by its name where the pickle is read."""
        return {
            "config": self._config,
            "model": self._model,
            "revision": self._revision,
            "file": self._file,
            "positive_label": self._positive_label,
            "trust_remote_code": self._trust_remote_code,
        }

    def __setstate__(self, state: Any) -> None:
        """Find and open the model again."""
        self._model = state["model"]
        self._revision = state["revision"]
        self._file = state["file"]
        self._positive_label = state["positive_label"]
        self._trust_remote_code = state["trust_remote_code"]
        self._find_and_open(state["config"])

    def _find_and_open(self, config: RerankerConfig) -> None:
        folder = resolve_model(
            self._model,
            provider=config.provider,
            precision=config.precision,
            revision=self._revision,
            file=self._file,
            positive_label=self._positive_label,
            trust_remote_code=self._trust_remote_code,
        )
        self._open(dataclasses.replace(config, artifact=folder.absolute()))
