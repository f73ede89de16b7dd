"""`AsyncReranker`: finds a model by name, and scores for the callers of an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.engine.text.windows import LongDocuments
    from crossrank.models.manifest import Activation, PrecisionChoice, ProviderChoice


class AsyncReranker(AsyncArtifactReranker):
    """Scores and ranks documents for the callers of an event loop, who share its batches.

    Example:
        >>> from crossrank import AsyncReranker
        >>> async def answer() -> int:
        ...     async with AsyncReranker() as reranker:
        ...         ranking = await reranker.rank("how do vaccines work", ["They train immune cells.", "Stocks fell."])
        ...     return ranking[0].index
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
        revision: str | None = None,
        file: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        """Find the model and load it. This blocks, so do it before the event loop serves callers.

        Args:
            model: as for `Reranker`.
            provider: 'auto', 'cpu' or 'cuda'.
            precision: 'auto', 'fp32', 'fp16' or 'int8'.
            threads: processor threads for scoring; None takes the cores available to the process.
            max_length: tokens of a pair, special tokens included; None takes the model's maximum.
            activation: 'identity' or 'sigmoid'; None takes the model's.
            max_batch_tokens: padded tokens of one run at most; None takes the provider's default.
            max_queue_tokens: tokens of all callers that may wait at most; None allows about four seconds of work,
                at the observed speed.
            max_wait_ms: how long an idle engine waits for other requests to share its first run, if runs can be shared.
            long_documents: 'truncate', 'windows' or `Windows(...)`.
            score_cache_bytes: size of the score cache in bytes; with it the same query and text are scored once. None
                turns it off.
            devices: numbers of the GPUs that share the work; None takes the first.
            gpu_memory_limit: bytes onnxruntime's arena may take on each GPU; None sets no limit.
            cuda_graphs: whether runs of a shape are captured once and replayed.
            revision: branch, tag or commit of a hub repository.
            file: a ready ONNX file of the model to take instead of its checkpoint, as for `Reranker`.
            trust_remote_code: allow code that comes with a checkpoint to run during its export.

        Raises:
            CrossrankError: as `Reranker`.
        """
        super().__init__(
            Reranker(
                model,
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
                revision=revision,
                file=file,
                trust_remote_code=trust_remote_code,
            )
        )
