"""Which queries of a BEIR collection are ranked, and which candidates each of them gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.evaluation.collection import Collection


def chosen_candidates(
    folder: Path, collection: Collection, queries: int | None, candidates: int
) -> dict[str, tuple[str, ...]]:
    """Choose queries that have a relevant document, evenly spread, and candidates for each.

    The candidates are the documents of the collection's run, best first, then others of the corpus in its order.

    Args:
        folder: the collection's folder, for messages.
        collection: what to choose from; without judgements every query may be chosen.
        queries: how many; None takes all.
        candidates: of each query.

    Returns:
        Query identifier to document identifiers.

    Raises:
        InvalidInputError: the corpus has fewer documents, or no query has a relevant document.
    """
    names = list(collection.documents)
    if len(names) < candidates:
        raise InvalidInputError(
            f"{folder}, {candidates} candidates: the corpus has {len(names)} documents; at most that many expected"
        )
    usable = _usable_queries(collection)
    if not usable:
        raise InvalidInputError(
            f"{folder}: none of its {len(collection.queries)} queries has a document with a grade above 0; "
            "judgements of the queries in queries.jsonl expected"
        )
    return {query: _candidates(collection, query, names, candidates) for query in evenly_spread(usable, queries)}


def _usable_queries(collection: Collection) -> list[str]:
    if not collection.judgements:
        return list(collection.queries)
    return [query for query in collection.queries if collection.has_relevant(query)]


def _candidates(collection: Collection, query: str, names: list[str], count: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*collection.runs.get(query, ()), *names)))[:count]


def evenly_spread(queries: Sequence[str], count: int | None) -> Sequence[str]:
    """This many of the queries, or all of them."""
    if count is None or count >= len(queries):
        return queries
    return [queries[index * len(queries) // count] for index in range(count)]
