"""Haystack: a ranker, as a component that pipelines can be saved with.

>>> from crossrank.integrations.haystack import CrossrankRanker  # doctest: +SKIP
>>> pipeline.add_component("ranker", CrossrankRanker(top_k=3))
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from crossrank.cascade import Cascade
from crossrank.engine.argument_checks import whole_number
from crossrank.engine.runtime.logits import activate
from crossrank.errors import InvalidInputError, MissingDependencyError
from crossrank.integrations.configured_reranker import ConfiguredReranker

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError as error:
    raise MissingDependencyError(
        f"the adapter needs haystack-ai; pip install 'crossrank[cpu,haystack]' ({error})"
    ) from error

if TYPE_CHECKING:
    from crossrank.engine.artifact_reranker import ArtifactReranker
    from crossrank.engine.call.results import RankResult
    from crossrank.engine.text.windows import LongDocumentsChoice
    from crossrank.models.manifest import Activation, PrecisionChoice, ProviderChoice


_OWN_ACTIVATION: Activation = "identity"
"""Of a model that is loaded here: it gives logits, of which both kinds of scores are made."""


class _Asked(NamedTuple):
    """What a call asks, checked. `sigmoid`: whether scores are to be made of what the reranker gives."""

    documents: list[Document]
    top_k: int
    sigmoid: bool
    threshold: float | None


@component
class CrossrankRanker:
    """Ranks documents by their relevance to a query.

    The documents given are not changed. One that cannot be scored follows the others, with None as its score, unless
    there is a threshold.
    """

    def __init__(  # noqa: PLR0913  one parameter an option
        self,
        *,
        model: str = "default",
        top_k: int = 10,
        scale_score: bool = True,
        score_threshold: float | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        provider: ProviderChoice = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        max_length: int | None = None,
        long_documents: LongDocumentsChoice = "truncate",
        revision: str | None = None,
        file: str | None = None,
        trust_remote_code: bool = False,
        reranker: ArtifactReranker | Cascade | None = None,
    ) -> None:
        """Say what ranks and how; the model is loaded by `warm_up`, which a pipeline calls, or at the first call.

        Args:
            model: as `Reranker` takes it: 'default', a folder, a catalogue name or a hub id.
            top_k: how many documents to return at most.
            scale_score: whether scores are between 0 and 1 (sigmoid); else they are logits.
            score_threshold: leave out documents with lower scores; None leaves out none.
            meta_fields_to_embed: fields of a document's `meta` that are read before its content, where it has them.
            embedding_separator: stands between these and the content.
            provider: as for `Reranker`, likewise the others up to `trust_remote_code`.
            precision: 'auto', 'fp32', 'fp16' or 'int8'.
            threads: processor threads for scoring.
            max_length: tokens of a pair.
            long_documents: 'truncate' or 'windows'.
            revision: branch, tag or commit of a hub repository.
            file: a ready ONNX file of the model.
            trust_remote_code: allow code that comes with a checkpoint to run during its export.
            reranker: a loaded reranker instead of the options from `model` on, or a cascade; a component that has
                one cannot be written as data.

        Raises:
            InvalidInputError: `top_k` is less than 1, or `score_threshold` is no number.
            ValidationError: of pydantic, a `ValueError`: another option is outside its range.
        """
        self.top_k = whole_number("top_k", top_k, 1)
        self.scale_score = scale_score
        self.score_threshold = _threshold(score_threshold)
        self.meta_fields_to_embed = list(meta_fields_to_embed or [])
        self.embedding_separator = embedding_separator
        options: dict[str, Any] = {
            "model": model,
            "provider": provider,
            "precision": precision,
            "threads": threads,
            "max_length": max_length,
            "long_documents": long_documents,
            "revision": revision,
            "file": file,
            "trust_remote_code": trust_remote_code,
            "reranker": reranker,
        }
        if reranker is None:
            options["activation"] = _OWN_ACTIVATION
        fields = ConfiguredReranker.model_fields
        self._configured = ConfiguredReranker(
            **{name: value for name, value in options.items() if value != fields[name].default}
        )

    def warm_up(self) -> None:
        """Load the model; does nothing where it is loaded.

        Raises:
            CrossrankError: as `Reranker`.
        """
        self._configured.ready()

    async def warm_up_async(self) -> None:
        """As `warm_up`, beside an event loop."""
        await asyncio.to_thread(self.warm_up)

    def close(self) -> None:
        """Free the model that was loaded here; the next call loads it again."""
        self._configured.close()

    def to_dict(self) -> dict[str, Any]:
        """The component as data.

        Raises:
            InvalidInputError: the component was given a loaded reranker, which is no data.
        """
        options = self._configured.options()
        del options["activation"]  # it is always the same here
        data: dict[str, Any] = default_to_dict(
            self,
            top_k=self.top_k,
            scale_score=self.scale_score,
            score_threshold=self.score_threshold,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            **options,
        )
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component of `to_dict`'s data."""
        made: Self = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(
        self,
        *,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        scale_score: bool | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """Rank documents for a query. Of documents with one id, the one with the highest score is ranked.

        Args:
            query: the query.
            documents: the documents.
            top_k: instead of the component's, for this call, where it is not None; likewise the others.
            scale_score: whether scores are between 0 and 1.
            score_threshold: leave out documents with lower scores.

        Returns:
            `documents`: copies of the best, best first, with their scores.

        Raises:
            InvalidInputError: `top_k` is less than 1, `score_threshold` is no number, or logits are asked of a reranker
                or cascade that was given and has none to show; nothing was scored then.
            CrossrankError: otherwise as `Reranker` and its `rank`.
        """
        asked = self._checked(documents, top_k, scale_score, score_threshold)
        if not asked.documents:
            return {"documents": []}
        return _answer(asked, self._configured.rank(query, self._texts(asked.documents)))

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        *,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        scale_score: bool | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """As `run`, beside an event loop; calls share batches.

        Raises:
            Overloaded: it would wait for more than about four seconds.
            CrossrankError: otherwise as `run`.
        """
        asked = self._checked(documents, top_k, scale_score, score_threshold)
        if not asked.documents:
            return {"documents": []}
        return _answer(asked, await self._configured.rank_async(query, self._texts(asked.documents)))

    def _checked(
        self, documents: list[Document], top_k: int | None, scale_score: bool | None, score_threshold: float | None
    ) -> _Asked:
        # The component's limits too: they may have been assigned.
        top_k = whole_number("top_k", self.top_k if top_k is None else top_k, 1, otherwise=", or None for a call")
        threshold = _threshold(self.score_threshold if score_threshold is None else score_threshold)
        scale_score = self.scale_score if scale_score is None else scale_score
        activation = self._activation()
        if activation == "sigmoid" and not scale_score:
            raise InvalidInputError(
                f"scale_score=False with {self._configured.reranker!r}, whose scores are between 0 and 1 already; "
                "give one with activation='identity'"
            )
        return _Asked(_one_for_each_id(documents), top_k, bool(scale_score) and activation == "identity", threshold)

    def _texts(self, documents: list[Document]) -> list[str]:
        return [
            self.embedding_separator.join(
                [
                    *(
                        str(document.meta[field])
                        for field in self.meta_fields_to_embed
                        if document.meta.get(field) is not None
                    ),
                    document.content or "",
                ]
            )
            for document in documents
        ]

    def _activation(self) -> Activation:
        """That of a reranker that was given, or of the one to load, which is not loaded for this."""
        reranker = self._configured.reranker
        if reranker is None:
            return _OWN_ACTIVATION
        rerankers = reranker.rerankers if isinstance(reranker, Cascade) else (reranker,)
        activations = {one.info().activation for one in rerankers}
        if len(activations) > 1:
            raise InvalidInputError(f"{reranker!r} mixes activations; give stages the same one")
        return activations.pop()


def _answer(asked: _Asked, ranking: RankResult) -> dict[str, list[Document]]:
    scores = [item.score for item in ranking]
    if asked.sigmoid:
        numbers = activate(np.asarray([score for score in scores if score is not None], np.float32), "sigmoid")
        scores[: len(numbers)] = numbers.tolist()  # what has no score comes last
    ranked = [
        dataclasses.replace(asked.documents[item.index], score=score)
        for item, score in zip(ranking, scores, strict=True)
        if asked.threshold is None or (score is not None and score >= asked.threshold)
    ]
    return {"documents": ranked[: asked.top_k]}


def _threshold(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        raise InvalidInputError(f"score_threshold={value!r}: a number expected, or None for no threshold")
    return float(value)


def _one_for_each_id(documents: list[Document]) -> list[Document]:
    """The documents in order, of those with one id the one with the highest score."""
    kept: dict[str, Document] = {}
    for document in documents:
        other = kept.get(document.id)
        if other is None or _known(document.score) > _known(other.score):
            kept[document.id] = document
    return list(kept.values())


def _known(score: float | None) -> float:
    return -math.inf if score is None else score
