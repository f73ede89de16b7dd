"""Several stages, each on fewer documents: a quick look at all of them, a careful one at the best."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.call.ranking import best_first, ranked_documents
from crossrank.engine.text.documents import as_list, checked_top_k, query_text
from crossrank.engine.text.prepared import PreparedDocuments
from crossrank.errors import InvalidInputError
from crossrank.reranker import Reranker
from crossrank.stages import CascadeResult, StageRun, checked_stages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import numpy.typing as npt

    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.call.results import RankedDocument
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.prepared import Documents
    from crossrank.engine.text.windows import LongDocuments
    from crossrank.models.manifest import PrecisionChoice, ProviderChoice
    from crossrank.stages import Stage


class Cascade:
    """Ranks in stages: every stage scores what the one before kept, and its documents rank above the rest.

    Stages may have different models, or the same one on fewer tokens of each document; the same model is loaded once,
    and stages with one tokenizer and length limit share the encoded documents. A stage that would drop nothing is left
    out, so a call with few documents is ranked by the last stage alone.

    Example:
        >>> from crossrank import Cascade, Stage
        >>> with Cascade([Stage("default", keep=100, max_length=64), Stage("default")]) as cascade:  # doctest: +SKIP
        ...     ranking = cascade.rank("how do vaccines work", documents, top_k=10)
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        provider: ProviderChoice = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        long_documents: LongDocuments = "truncate",
        score_cache_bytes: int | None = None,
    ) -> None:
        """Load the stages' models; the options are those of the rerankers that it makes, see `Reranker`.

        Args:
            stages: first to last. All but the last keep some documents.
            provider: 'auto', 'cpu' or 'cuda'.
            precision: 'auto', 'fp32', 'fp16' or 'int8'.
            threads: processor threads for scoring.
            long_documents: 'truncate', 'windows' or `Windows(...)`, for stages without a `max_length`.
            score_cache_bytes: bytes of scores to keep, for each model.

        Raises:
            InvalidInputError: the list is empty, a stage before the last has no `keep`, the last has one, or a
                `max_length` is outside its model's range.
            CrossrankError: whatever `Reranker` raises.
        """
        self._stages = checked_stages(stages)
        self._options: dict[str, Any] = {
            "provider": provider,
            "precision": precision,
            "threads": threads,
            "long_documents": long_documents,
            "score_cache_bytes": score_cache_bytes,
        }
        self._made: dict[str, Reranker] = {}
        self._open()

    @classmethod
    def default(
        cls,
        *,
        provider: ProviderChoice = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
    ) -> Self:
        """The embedded model with itself: the beginning of every document first, then the best of them whole.

        Its numbers come from `crossrank tune-cascade` on few queries: docs/benchmarks.md says on what, and how far to
        trust them. With fewer documents than its first stage keeps, the model alone ranks.
        """
        from crossrank.models.embedded import DEFAULT_CASCADE

        return cls.from_toml(DEFAULT_CASCADE, provider=provider, precision=precision, threads=threads)

    @classmethod
    def from_toml(
        cls,
        file: str | Path,
        *,
        provider: ProviderChoice = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        long_documents: LongDocuments = "truncate",
        score_cache_bytes: int | None = None,
    ) -> Self:
        """A cascade from a file with a `[[stage]]` table a stage, as `crossrank tune-cascade` writes it.

        Args:
            file: path. A model in it that is a folder beside the file is that folder.
            provider: as for the constructor; likewise the other options.
            precision: as for `Cascade`.
            threads: as for `Cascade`.
            long_documents: as for `Cascade`.
            score_cache_bytes: as for `Cascade`.

        Raises:
            InvalidInputError: the file does not exist, is not TOML, or holds something other than stages.
            CrossrankError: as the constructor.
        """
        from crossrank.cascade_file import read_stages

        return cls(
            read_stages(Path(file)),
            provider=provider,
            precision=precision,
            threads=threads,
            long_documents=long_documents,
            score_cache_bytes=score_cache_bytes,
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages, first to last."""
        return self._stages

    @property
    def rerankers(self) -> tuple[ArtifactReranker, ...]:
        """The stages' rerankers, first to last; stages with one model share one."""
        return tuple(self._rerankers)

    def prepare(self, documents: Documents) -> PreparedDocuments:
        """Encode documents once for the first stage and those that share its tokenizer, to rank them for many queries.

        Raises:
            InvalidInputError: as `Reranker.prepare`.
            ClosedError: `close` was called.
        """
        return self._rerankers[0].prepare(documents)

    def rank(
        self, query: str, documents: Documents, top_k: int | None = None, return_documents: bool = True
    ) -> CascadeResult:
        """Order documents by their relevance to a query, best first.

        Documents of a later stage come before those of an earlier one; within a stage its logits decide, and the
        documents' own order where they are equal.

        Args:
            query: the query.
            documents: strings, or mappings with a 'text' field; or what `prepare` made of them.
            top_k: how many to return at most; None returns all.
            return_documents: whether the results carry the caller's documents.

        Returns:
            The ranking; each document names the stage that gave its score and says what that stage read of it.

        Raises:
            InvalidInputError: a document is no text, or top_k is negative.
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        query = query_text(query)
        items = documents.items if isinstance(documents, PreparedDocuments) else tuple(as_list(documents))
        top_k = checked_top_k(top_k, len(items))
        pool = _DocumentPool(items, documents if isinstance(documents, PreparedDocuments) else None)
        alive = np.arange(len(items))
        ranked: list[RankedDocument] = []
        runs: list[StageRun] = []
        query_truncated = False
        for number, (stage, reranker) in enumerate(zip(self._stages, self._rerankers, strict=True)):
            started = time.perf_counter()
            scores, scored = None, 0
            if stage.keep is None or stage.keep < len(alive):
                scores, scored = pool.score(reranker, query, alive, stage.max_length), len(alive)
            seconds = time.perf_counter() - started
            info = reranker.info()
            runs.append(StageRun(info.model, stage.max_length or info.max_length, scored, seconds))
            if scores is None:
                continue
            query_truncated = query_truncated or scores.query_truncated
            best = best_first(scores)
            kept, dropped = best[: stage.keep or 0], best[stage.keep or 0 :]
            shown = items if return_documents else None
            # Whatever an earlier stage dropped comes after this stage's documents.
            ranked[:0] = ranked_documents(scores, dropped, reranker.activated, shown, indices=alive, stage=number)
            alive = np.sort(alive[kept])
        return CascadeResult(
            documents=tuple(ranked[:top_k]),
            scored=len(items),
            truncated_documents=sum(item.truncated for item in ranked),
            query_truncated=query_truncated,
            stages=tuple(runs),
        )

    def close(self) -> None:
        """Close the rerankers that the cascade made; those it was given stay open. Closing twice does nothing."""
        for reranker in self._made.values():
            reranker.close()

    def __enter__(self) -> Self:
        """Use as a context manager; leaving it closes."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __getstate__(self) -> object:
        """Pickle as stages and options; models are found again where the pickle is read."""
        return self._stages, self._options

    def __setstate__(self, state: Any) -> None:
        """Load the stages' models again."""
        self._stages, self._options = state
        self._made = {}
        self._open()

    def _open(self) -> None:
        self._rerankers: list[ArtifactReranker] = []
        try:
            for number, stage in enumerate(self._stages):
                self._rerankers.append(self._reranker(stage.model))
                self._check_length(number)
        except BaseException:
            self.close()
            raise

    def _reranker(self, model: str | Path | ArtifactReranker) -> ArtifactReranker:
        if isinstance(model, ArtifactReranker):
            return model
        name = str(model)
        if name not in self._made:
            self._made[name] = Reranker(model, **self._options)
        return self._made[name]

    def _check_length(self, number: int) -> None:
        reranker, max_length = self._rerankers[number], self._stages[number].max_length
        try:
            reranker.score_indices("", reranker.prepare([]), np.arange(0), max_length=max_length)
        except InvalidInputError as error:
            raise InvalidInputError(f"stage {number + 1} of the cascade: {error}") from error


class _DocumentPool:
    """The documents of one call, encoded once for each kind of reranker that reads them."""

    def __init__(self, items: tuple[Document, ...], prepared: PreparedDocuments | None) -> None:
        self._items = items
        self._first = prepared
        self._encoded: dict[str, tuple[PreparedDocuments, npt.NDArray[np.int64]]] = {}

    def score(
        self, reranker: ArtifactReranker, query: str, alive: npt.NDArray[np.int64], max_length: int | None
    ) -> DocumentScores:
        """Score some documents, given by their places in ascending order."""
        if self._first is not None:  # the caller's own must suit the first stage
            self._encoded[reranker.prepared_key] = (reranker.prepare(self._first), np.arange(len(self._items)))
            self._first = None
        if reranker.prepared_key not in self._encoded:
            documents = self._items if len(alive) == len(self._items) else [self._items[index] for index in alive]
            self._encoded[reranker.prepared_key] = (reranker.prepare(documents), alive)
        prepared, indices = self._encoded[reranker.prepared_key]
        return reranker.score_indices(query, prepared, np.searchsorted(indices, alive), max_length=max_length)
