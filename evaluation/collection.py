"""A judged collection, from files or from what a program holds already."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, TypeAlias, runtime_checkable

from crossrank.errors import InvalidInputError


@runtime_checkable
class DataFrame(Protocol):
    """What is read of a data frame: the names of its columns, and a column by its name (pandas, polars)."""

    @property
    def columns(self) -> Iterable[Any]:
        """The names of the columns."""

    def __getitem__(self, column: Any, /) -> Any:
        """The values of a column."""


Texts: TypeAlias = Mapping[str, str] | DataFrame
Judgements: TypeAlias = Mapping[str, Mapping[str, int]] | DataFrame
Run: TypeAlias = Mapping[str, Mapping[str, float] | Sequence[str]] | DataFrame


@dataclass(frozen=True)
class Collection:
    """A test collection.

    Attributes:
        documents: identifier to text; from BEIR files title + " " + text, in the file's order.
        queries: identifier to text, in the file's order.
        judgements: query identifier to {document identifier: grade}.
        runs: query identifier to document identifiers, best first; empty without a run.
        name: what reports call it.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]
    runs: dict[str, tuple[str, ...]]
    name: str = "collection"

    @classmethod
    def from_tables(
        cls, documents: Texts, queries: Texts, judgements: Judgements, run: Run, *, name: str = "collection"
    ) -> Collection:
        """A collection of dictionaries or data frames; columns have the names that ir-measures and ir_datasets use.

        Args:
            documents: {identifier: text}, or a frame with doc_id and text.
            queries: {identifier: text}, or a frame with query_id and text.
            judgements: {query: {document: grade}}, or a frame with query_id, doc_id and relevance. Grades are whole
                numbers, and those above 0 are relevant.
            run: {query: {document: score}} or {query: documents, best first}, or a frame with query_id, doc_id and
                score. Documents of equal score keep their order.
            name: what reports call it.

        Raises:
            InvalidInputError: a column is missing, a value is of another kind, an identifier comes twice, or the run
                has a document that is not among the documents; the message has its place.
        """
        texts = _texts("documents", documents, "doc_id")
        return cls(
            texts,
            _texts("queries", queries, "query_id"),
            _judgements(judgements),
            _run(run, texts),
            name,
        )

    def has_relevant(self, query: str) -> bool:
        """Whether a document is judged relevant to the query, with a grade above 0."""
        return any(grade > 0 for grade in self.judgements.get(query, {}).values())


def _rows(what: str, frame: object, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    if not isinstance(frame, DataFrame):
        raise InvalidInputError(
            f"{what} is a {type(frame).__name__}: a mapping, or a data frame with the columns {', '.join(columns)} "
            "expected"
        )
    missing = [column for column in columns if column not in list(frame.columns)]
    if missing:
        raise InvalidInputError(
            f"{what} has the columns {', '.join(map(str, frame.columns))}; {', '.join(missing)} expected as well"
        )
    return zip(*(frame[column] for column in columns), strict=True)


def _texts(what: str, given: Texts, identifier: str) -> dict[str, str]:
    rows = given.items() if isinstance(given, Mapping) else _rows(what, given, (identifier, "text"))
    texts: dict[str, str] = {}
    for position, (key, text) in enumerate(rows):
        if not isinstance(text, str):
            raise InvalidInputError(f"{what}, position {position}: a string expected as text, {text!r:.100} given")
        if str(key) in texts:
            raise InvalidInputError(f"{what}, position {position}: identifier {key!r} comes a second time")
        texts[str(key)] = text
    if not texts:
        raise InvalidInputError(f"no {what} given; one or more expected")
    return texts


def _judgements(given: Judgements) -> dict[str, dict[str, int]]:
    if isinstance(given, Mapping):
        rows: Iterable[tuple[Any, ...]] = (
            (query, document, grade) for query, grades in given.items() for document, grade in grades.items()
        )
    else:
        rows = _rows("judgements", given, ("query_id", "doc_id", "relevance"))
    judgements: dict[str, dict[str, int]] = {}
    for position, (query, document, grade) in enumerate(rows):
        number = float(grade) if isinstance(grade, Real) else math.nan
        if not number.is_integer():
            raise InvalidInputError(
                f"judgements, position {position}: a whole number expected as grade, {grade!r:.100} given"
            )
        add_judgement(judgements, str(query), str(document), int(number), f"judgements, position {position}")
    return judgements


def add_judgement(judgements: dict[str, dict[str, int]], query: str, document: str, grade: int, position: str) -> None:
    """Add a judgement.

    Args:
        judgements: of other documents and queries.
        query: identifier.
        document: identifier.
        grade: the document's for the query.
        position: where it was read, for the message.

    Raises:
        InvalidInputError: the document was judged for this query already, with another grade.
    """
    before = judgements.setdefault(query, {}).setdefault(document, grade)
    if before != grade:
        raise InvalidInputError(
            f"{position}: document {document!r} has grade {grade} for query {query!r} and had {before}; one expected"
        )


def _run(given: Run, documents: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    scored: dict[str, dict[str, float]] = {}
    if isinstance(given, Mapping):
        rows: Iterable[tuple[Any, ...]] = (
            (query, document, score) for query, ranked in given.items() for document, score in _scored(query, ranked)
        )
    else:
        rows = _rows("run", given, ("query_id", "doc_id", "score"))
    for position, (query, document, score) in enumerate(rows):
        own = scored.setdefault(str(query), {})
        if str(document) not in documents:
            raise InvalidInputError(
                f"run, position {position}: document {document!r} of query {query!r} is not among the documents"
            )
        if str(document) in own:
            raise InvalidInputError(f"run, position {position}: document {document!r} comes twice for query {query!r}")
        if not isinstance(score, Real) or math.isnan(score):
            raise InvalidInputError(f"run, position {position}: a number expected as score, {score!r:.100} given")
        own[str(document)] = float(score)
    return {query: tuple(sorted(own, key=own.__getitem__, reverse=True)) for query, own in scored.items()}


def _scored(query: object, ranked: object) -> Iterable[tuple[Any, Any]]:
    if isinstance(ranked, Mapping):
        return ranked.items()
    if isinstance(ranked, str) or not isinstance(ranked, Sequence):
        raise InvalidInputError(
            f"run, query {query!r}: {{document: score}} or documents, best first, expected, {ranked!r:.100} given"
        )
    return ((document, -float(rank)) for rank, document in enumerate(ranked))
