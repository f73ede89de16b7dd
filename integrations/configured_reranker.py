"""What the adapters share: a reranker by its configuration, which travels; it is loaded when it is first used."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

# At run time, because pydantic reads the annotations of the fields.
from crossrank.cascade import Cascade
from crossrank.engine import process
from crossrank.engine.artifact_reranker import ArtifactReranker  # noqa: TC001
from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.engine.config import RerankerConfig
from crossrank.engine.text.windows import LongDocumentsChoice  # noqa: TC001
from crossrank.errors import InvalidInputError
from crossrank.models.manifest import Activation, PrecisionChoice, ProviderChoice  # noqa: TC001
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crossrank.engine.call.results import RankResult

_ENGINE_OPTIONS = ("provider", "precision", "threads", "max_length", "activation", "long_documents")
_OPTIONS = ("model", *_ENGINE_OPTIONS, "revision", "file", "trust_remote_code")


class _LoadedRerankers:
    """Rerankers by their options: more than one only where fields were changed, or a copy has others.

    A pickle of it, or a deep copy, has none.
    """

    def __init__(self) -> None:
        self._rerankers: dict[tuple[Any, ...], Reranker] = {}
        self._lock = threading.Lock()
        process.bind(self)

    def forget_after_fork(self) -> None:
        """In a child: another thread may have held the lock; the rerankers themselves outlive the fork."""
        self._lock = threading.Lock()

    def get(self, options: dict[str, Any]) -> Reranker:
        key = tuple(options.values())
        with self._lock:
            if key not in self._rerankers:
                self._rerankers[key] = Reranker(**options)
            return self._rerankers[key]

    def close(self) -> None:
        with self._lock:
            for reranker in self._rerankers.values():
                reranker.close()
            self._rerankers.clear()

    def __reduce__(self) -> tuple[type[_LoadedRerankers], tuple[()]]:
        return type(self), ()

    # pydantic compares private attributes; whether something is loaded makes no difference.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _LoadedRerankers)

    __hash__ = object.__hash__


class ConfiguredReranker(BaseModel):
    """The fields that say which reranker ranks. It is loaded at the first call, once, whichever thread is first.

    A field that is assigned is checked; one that is refused stays what it was.

    Attributes:
        model: as `Reranker` takes it: 'default', a folder, a catalogue name or a hub id.
        provider: as for `Reranker`, likewise the others up to `trust_remote_code`.
        precision: 'auto', 'fp32', 'fp16' or 'int8'.
        threads: processor threads for scoring; None takes the cores available.
        max_length: tokens of a pair; None takes the model's maximum.
        activation: 'identity' or 'sigmoid'; None takes the model's.
        long_documents: 'truncate' reads the beginning of what is too long, 'windows' all of it.
        revision: branch, tag or commit of a hub repository.
        file: a ready ONNX file of the model.
        trust_remote_code: allow code that comes with a checkpoint to run during its export.
        reranker: a reranker or cascade that is loaded already, instead of all of these; the caller closes it. It
            pickles, but cannot be written as data.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", validate_assignment=True)

    model: str = Field(default="default", min_length=1)
    provider: ProviderChoice = "auto"
    precision: PrecisionChoice = "auto"
    threads: int | None = None
    max_length: int | None = None
    activation: Activation | None = None
    long_documents: LongDocumentsChoice = "truncate"
    revision: str | None = None
    file: str | None = None
    trust_remote_code: bool = False
    reranker: ArtifactReranker | Cascade | None = None

    _loaded: _LoadedRerankers = PrivateAttr(default_factory=_LoadedRerankers)

    @field_validator("model", mode="before")
    @classmethod
    def _path_as_text(cls, model: object) -> object:
        # A folder named like an embedded model stays that folder.
        return str(Path(model).absolute()) if isinstance(model, Path) else model

    @model_validator(mode="after")
    def _check(self) -> Self:
        RerankerConfig("", **{name: getattr(self, name) for name in _ENGINE_OPTIONS})
        both = sorted(self.model_fields_set & set(_OPTIONS))
        if self.reranker is not None and both:
            raise InvalidInputError(
                f"reranker= together with {', '.join(both)}: a loaded reranker has its own; give either"
            )
        return self

    if not TYPE_CHECKING:  # where a class has this, type checkers let any name be assigned

        def __setattr__(self, name: str, value: object) -> None:
            """Assign a field as it was checked, or nothing.

            Raises:
                ValidationError: of pydantic, a `ValueError`: the value is outside its range, or does not go with the
                    others.
            """
            fields, given = self.__dict__.copy(), self.model_fields_set.copy()
            try:
                super().__setattr__(name, value)
            except ValidationError:
                # pydantic assigns before it calls `_check`, and leaves it at that where `_check` refuses.
                object.__setattr__(self, "__dict__", fields)
                object.__setattr__(self, "__pydantic_fields_set__", given)
                raise

    @field_serializer("reranker")
    def _serialized(self, reranker: ArtifactReranker | Cascade | None) -> None:
        if reranker is not None:
            self.options()

    def options(self) -> dict[str, Any]:
        """What `Reranker` is called with.

        Raises:
            InvalidInputError: a loaded reranker was given. It is no data, and a copy without it would rank with another
                model.
        """
        if self.reranker is not None:
            raise InvalidInputError(
                f"{self.reranker!r} was given as a loaded reranker, which cannot be written as data; give model=, "
                "precision= and so on instead, to have it loaded where the data is read"
            )
        return {name: getattr(self, name) for name in _OPTIONS}

    def ready(self) -> ArtifactReranker | Cascade:
        """The reranker, loaded now if it is not yet.

        Raises:
            CrossrankError: as `Reranker`.
        """
        return self._loaded.get(self.options()) if self.reranker is None else self.reranker

    def rank(self, query: str, texts: Sequence[str], top_k: int | None = None) -> RankResult:
        """Rank texts; the results have their indices, not the texts.

        Raises:
            CrossrankError: as `Reranker` and its `rank`.
        """
        return self.ready().rank(query, texts, top_k, return_documents=False)

    async def rank_async(self, query: str, texts: Sequence[str], top_k: int | None = None) -> RankResult:
        """Rank texts beside an event loop: calls share batches, and a cancelled one leaves the queue.

        Raises:
            Overloaded: it would wait for more than about four seconds; not with a cascade, whose calls take threads.
            CrossrankError: otherwise as `rank`.
        """
        reranker = await asyncio.to_thread(self.ready)
        if isinstance(reranker, Cascade):
            return await asyncio.to_thread(reranker.rank, query, texts, top_k, return_documents=False)
        return await AsyncArtifactReranker(reranker).rank(query, texts, top_k, return_documents=False)

    def close(self) -> None:
        """Close the reranker that was loaded here; the next call loads it again. One that was given stays open."""
        self._loaded.close()

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """For `repr`: the fields that differ from their defaults, without those that are never written out."""
        for name, field in type(self).model_fields.items():
            if not field.exclude and getattr(self, name) != field.default:
                yield name, getattr(self, name)
