"""`Cascade`: ranks in stages, a fast one for all documents and slower ones for the best of them."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from crossrank.document_pool import DocumentPool
from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.call.arguments import listed, name_in
from crossrank.engine.call.ranking import best_first, ranked_documents
from crossrank.engine.closing import ClosedOnLeaving
from crossrank.engine.text.documents import as_list, checked_top_k, query_text
from crossrank.engine.text.prepared import PreparedDocuments
from crossrank.errors import InferenceError, InvalidInputError
from crossrank.reranker import Reranker
from crossrank.resolve import absolute_model
from crossrank.stages import CascadeResult, StageRun, checked_stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossrank.engine.call.results import RankedDocument
    from crossrank.engine.text.prepared import Documents
    from crossrank.engine.text.windows import LongDocuments
    from crossrank.models.manifest import PrecisionChoice, ProviderChoice
    from crossrank.stages import Stage


class Cascade(ClosedOnLeaving):
    """Ranks in stages: each stage scores the best documents of the stage before, and they rank above all others.

    Stages may have different models, or the same one on fewer tokens of each document; the same model is loaded once,
    and stages with one tokenizer and length limit share the encoded documents. A stage that would drop no document
    is skipped, so a call with few documents is ranked by the last stage alone.

    Examples:
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
        """Load the stages' models. The options apply to the rerankers that the cascade makes; see `Reranker`.

        Args:
            stages: first to last. All but the last have a `keep`.
            provider: 'auto', 'cpu' or 'cuda'.
            precision: 'auto', 'fp32', 'fp16' or 'int8'.
            threads: processor threads for scoring.
            long_documents: 'truncate', 'windows' or `Windows(...)`, for stages without a `max_length`.
            score_cache_bytes: size of the score cache in bytes, for each model.

        Raises:
            InvalidInputError: there are no stages, a stage before the last has no `keep`, the last stage has one, or a
                `max_length` is outside its model's range.
            CrossrankError: whatever `Reranker` raises.
        """
        self._stages = checked_stages(stages)
        self._make = partial(
            Reranker,
            provider=provider,
            precision=precision,
            threads=threads,
            long_documents=long_documents,
            score_cache_bytes=score_cache_bytes,
        )
        self._made: dict[str | Path, Reranker] = {}
        self._open()

    @classmethod
    def default(
        cls,
        *,
        provider: ProviderChoice = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
    ) -> Self:
        """The default cascade, of embedded models: the last stage is 'default' on whole documents.

        In int8 on the CPU the stages before may use 'default-small'; elsewhere all have the model 'default', which has
        graphs for CUDA too. `stages` says what they are. Their numbers come from `crossrank bench cascade` on few
        queries; docs/benchmarks.md says which, and how reliable they are. With no more documents than the first stage
        keeps, only the last stage runs.

        Raises:
            CrossrankError: as the constructor.
        """
        from crossrank.cascade_file import default_cascade_file

        file = default_cascade_file(provider, precision)
        return cls.from_toml(file, provider=provider, precision=precision, threads=threads)

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
        """A cascade from a TOML file with one `[[stage]]` table per stage, as `crossrank bench cascade` writes it.

        Args:
            file: path. If a model's name is a folder beside the file, that folder is used.
            provider: as for the constructor.
            precision: as for the constructor.
            threads: as for the constructor.
            long_documents: as for the constructor.
            score_cache_bytes: as for the constructor.

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

        Documents scored last by a later stage come before those of an earlier stage. Within a stage they are ordered by
        logit, and documents with equal logits keep their order. A document that a stage cannot score goes on to no
        later one: it follows all that have a score, and `failures` says why.

        Args:
            query: the query.
            documents: strings, or mappings with a 'text' field; or the result of `prepare`.
            top_k: how many to return at most; None returns all.
            return_documents: whether the results carry the caller's documents.

        Returns:
            The ranking; each document names the stage that gave its score and says what that stage read of it.

        Raises:
            InvalidInputError: a document is not text, or top_k is negative.
            InferenceError: all runs of a stage failed; the message names the stage and the documents that it had.
            ClosedError: `close` was called.
        """
        query = query_text(query)
        if isinstance(documents, PreparedDocuments):
            documents.check_key(self._rerankers[0].prepared_key)
        items = documents.items if isinstance(documents, PreparedDocuments) else tuple(as_list(documents))
        top_k = checked_top_k(top_k, len(items))
        pool = DocumentPool(items, documents if isinstance(documents, PreparedDocuments) else None)
        alive = np.arange(len(items))
        ranked: list[RankedDocument] = []
        unscored: list[RankedDocument] = []
        failures: dict[int, str] = {}
        runs: list[StageRun] = []
        query_truncated = False
        tokens = 0
        for number, (stage, reranker) in enumerate(zip(self._stages, self._rerankers, strict=True)):
            started = time.perf_counter()
            scores, scored = None, 0
            if stage.keep is None or stage.keep < len(alive):
                try:
                    scores = pool.score(reranker, query, alive, stage.max_length)
                except InferenceError as error:
                    # Every run failed, so the model may be at fault as well as these documents: nothing is ranked.
                    documents_of_stage = listed(alive.tolist(), name_in("documents"))
                    raise InferenceError(
                        f"stage {number + 1} of the cascade could not score {documents_of_stage}: {error}"
                    ) from error
                scored = int(scores.scored.sum())
            seconds = time.perf_counter() - started
            info = reranker.info()
            runs.append(StageRun(info.model, stage.max_length or info.max_length, scored, seconds))
            if scores is None:
                continue
            query_truncated = query_truncated or scores.query_truncated
            tokens += int(scores.tokens[scores.scored].sum())
            best = best_first(scores)
            promoted, dropped = best[: stage.keep or 0], best[stage.keep or 0 :]
            returned = items if return_documents else None
            # Documents that an earlier stage dropped, or could not score, rank below this stage's.
            ranked[:0] = ranked_documents(scores, dropped, reranker.activated, returned, indices=alive, stage=number)
            failed = np.asarray(sorted(scores.failed), dtype=np.int64)
            unscored[:0] = ranked_documents(scores, failed, reranker.activated, returned, indices=alive, stage=number)
            failures |= {int(alive[position]): str(scores.failed[position].error) for position in failed.tolist()}
            alive = np.sort(alive[promoted])
        return CascadeResult(
            documents=tuple([*ranked, *unscored][:top_k]),
            scored=len(ranked),
            truncated_documents=sum(item.truncated for item in ranked),
            query_truncated=query_truncated,
            unscored=tuple(item.index for item in unscored),
            unscored_because="failed" if unscored else None,
            failures=dict(sorted(failures.items())),
            tokens=tokens,
            stages=tuple(runs),
        )

    def close(self) -> None:
        """Close the rerankers that the cascade made; those given as a stage's model stay open. May be called twice."""
        for reranker in self._made.values():
            reranker.close()

    def __repr__(self) -> str:
        """One line: what each stage runs, on how many tokens of a pair, and how many documents it keeps."""
        stages = []
        for stage, reranker in zip(self.__dict__.get("_stages", ()), self.__dict__.get("_rerankers", ()), strict=False):
            info = reranker.info()
            kept = "" if stage.keep is None else f" keeping {stage.keep}"
            length = stage.max_length or info.max_length
            stages.append(f"{info.model!r} {info.precision} on {info.provider}, {length} tokens a pair{kept}")
        return f"<{type(self).__name__} {', then '.join(stages) or 'not loaded'}>"

    def __getstate__(self) -> object:
        """Pickle as stages and options; models are found again where the pickle is read."""
        return self._stages, self._make

    def __setstate__(self, state: Any) -> None:
        """Load the stages' models again."""
        self._stages, self._make = state
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
        name = absolute_model(model)  # "default" is the embedded model, Path("default") a folder
        if name not in self._made:
            self._made[name] = self._make(model)
        return self._made[name]

    def _check_length(self, number: int) -> None:
        reranker, max_length = self._rerankers[number], self._stages[number].max_length
        try:
            reranker.score_indices("", reranker.prepare([]), np.arange(0), max_length=max_length)
        except InvalidInputError as error:
            raise InvalidInputError(f"stage {number + 1} of the cascade: {error}") from error
