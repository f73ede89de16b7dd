"""The query-document pairs graphs are verified on: the package's own, or a file of the user's."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.engine.text.documents import encodable
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from crossrank.engine.text.encoding import PairEncoder
    from crossrank.models.manifest import ReferencePair

REFERENCE_PAIRS = 8
"""Pairs an artifact keeps with their logits."""

_HELD_OUT_STEP = 3
_OWN = "verification_pairs.jsonl"


@dataclass(frozen=True)
class VerificationQuery:
    """A query and the documents ranked for it."""

    query: str
    documents: tuple[str, ...]


def load_queries(path: Path | None = None) -> tuple[VerificationQuery, ...]:
    """Read verification queries.

    Args:
        path: JSONL, a line an object with "query" (a string) and "documents" (a list of at least two strings);
            None for the pairs that come with the package.

    Raises:
        InvalidInputError: the file cannot be read, has no line, or a line has another shape.
    """
    try:
        if path is None:
            text = (resources.files("crossrank.export.verify") / _OWN).read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot read the verification pairs {path or _OWN}: {error}") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise InvalidInputError(f"{path or _OWN} has no verification pairs; expected a JSON object a line")
    return tuple(_parse(line, f"{path or _OWN}, line {number}") for number, line in lines)


def fit_queries(
    queries: Iterable[VerificationQuery],
    encoder: PairEncoder,
    *,
    documents: int | None = None,
    cuts_longer_text: bool = False,
) -> tuple[VerificationQuery, ...]:
    """Shorten queries that leave no room for a document, so that every tokenizer cuts the same pairs the same way.

    Args:
        queries: as loaded.
        encoder: of the model that is verified.
        documents: keep only so many documents a query; None for all.
        cuts_longer_text: whether the reference cuts the longer of query and document; queries are then shortened to
            half of a pair, so that it never cuts them.
    """
    longest = encoder.cut_query_tokens if cuts_longer_text else encoder.max_query_tokens
    return tuple(
        replace(item, query=_fitting(item.query, encoder, longest), documents=item.documents[:documents])
        for item in queries
    )


def all_pairs(queries: Iterable[VerificationQuery]) -> list[tuple[str, str]]:
    """The (query, document) pairs, a query's side by side."""
    return [(item.query, document) for item in queries for document in item.documents]


def split_by_query(logits: NDArray[np.float32], queries: Sequence[VerificationQuery]) -> list[NDArray[np.float32]]:
    """Cut the logits of `all_pairs(queries)` into one array a query."""
    return np.split(logits, np.cumsum([len(item.documents) for item in queries])[:-1])


def choose_reference_pairs(
    queries: Sequence[VerificationQuery], *, count: int = REFERENCE_PAIRS
) -> list[tuple[int, ReferencePair]]:
    """Pairs from the shortest to the longest, evenly spread, the same ones every time.

    Returns:
        Each pair with its place in `all_pairs(queries)`.
    """
    from crossrank.models.manifest import ReferencePair

    pairs = all_pairs(queries)
    order = sorted(range(len(pairs)), key=lambda index: (len(pairs[index][0]) + len(pairs[index][1]), index))
    count = min(count, len(order))
    chosen = [order[round(step * (len(order) - 1) / max(count - 1, 1))] for step in range(count)]
    return [(index, ReferencePair(query=pairs[index][0], document=pairs[index][1])) for index in chosen]


def calibration_queries(queries: Sequence[VerificationQuery]) -> Sequence[VerificationQuery]:
    """The verification queries that lend their pairs to passes which calibrate: all but every third."""
    return [query for index, query in enumerate(queries) if index % _HELD_OUT_STEP or len(queries) == 1]


def calibration_feeds(
    queries: Iterable[VerificationQuery], encoder: PairEncoder, types: Mapping[str, type[np.integer[Any]]]
) -> list[dict[str, NDArray[np.integer[Any]]]]:
    """One feed a pair, unpadded, as the engine would run it alone.

    Args:
        queries: whose pairs.
        encoder: of the model.
        types: inputs of the graph and their integer types.
    """
    feeds = []
    for item in queries:
        count = len(item.documents)
        pairs = encoder.pair(
            [encoder.encode_query(item.query)],
            np.zeros(count, dtype=np.int64),
            encoder.encode_documents(item.documents),
        )
        for index in range(count):
            arrays = encoder.assemble(pairs, np.asarray([index]), int(pairs.lengths[index]))
            feeds.append({name: getattr(arrays, name).astype(kind, copy=False) for name, kind in types.items()})
    return feeds


def _parse(line: str, where: str) -> VerificationQuery:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        # Besides text that is no JSON: whole numbers of thousands of digits, and brackets within brackets.
        raise InvalidInputError(f"{where}: no JSON ({error})") from error
    query = item.get("query") if isinstance(item, dict) else None
    documents = item.get("documents") if isinstance(item, dict) else None
    if (
        not isinstance(query, str)
        or not isinstance(documents, list)
        or len(documents) < 2  # noqa: PLR2004
        or not all(isinstance(document, str) for document in documents)
    ):
        raise InvalidInputError(
            f'{where}: expected {{"query": "...", "documents": ["...", "...", ...]}} with two or more'
        )
    return VerificationQuery(encodable(query), tuple(map(encodable, documents)))


def _fitting(query: str, encoder: PairEncoder, longest: int) -> str:
    while query and (len((encoded := encoder.encode_query(query)).ids) > longest or encoded.truncated):
        query = query[: len(query) // 2].rstrip()
    return query
