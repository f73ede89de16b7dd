"""Checking what a caller gives: queries, documents, pairs, top_k. Nothing of the caller's is ever changed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from crossrank.engine.argument_checks import whole_number
from crossrank.errors import InvalidInputError

TEXT_FIELD = "text"
Document: TypeAlias = str | Mapping[str, object]
"""A document: its text, or a mapping that has it under 'text'."""

Item = TypeVar("Item")

_TEXTS = f"strings or of mappings with a {TEXT_FIELD!r} field"
_MISSING = {"None", "NaN", "NAType"}
"""What tables have where a value is missing; the last one is pandas' own."""
_SURROGATES = re.compile("[\ud800-\udfff]")


def as_list(items: Iterable[Item], what: str = "documents", of: str = _TEXTS) -> list[Item]:
    """Take an iterable, refusing one document given instead of a list of them.

    Args:
        items: what the caller gave.
        what: its name, for the message.
        of: what it should hold, for the message.

    Raises:
        InvalidInputError: a single string or mapping, or something that cannot be iterated.
    """
    # A pandas table iterates over the names of its columns, one of polars over the columns.
    table = hasattr(items, "iterrows") or hasattr(items, "iter_rows")
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable) or table:
        hint = "; a column of a table is one, and so are its rows as dictionaries" if table else ""
        raise InvalidInputError(f"{what} is a {type(items).__name__}: a list of {of} expected{hint}")
    try:
        iterator = iter(items)
    except TypeError as error:  # an array without dimensions
        raise InvalidInputError(f"{what} is a {type(items).__name__} ({error}): a list of {of} expected") from error
    return list(iterator)


def query_text(query: str, what: str = "query") -> str:
    """Check a query and make it encodable.

    Raises:
        InvalidInputError: it is not a string.
    """
    if not isinstance(query, str):
        raise InvalidInputError(f"{what} is a {type(query).__name__}: a string expected")
    return encodable(query)


def document_text(document: Document, position: int, what: str = "documents") -> str:
    """The text of one document, made encodable.

    Args:
        document: a string, or a mapping with a text field.
        position: its index in the caller's list, for the message.
        what: the name of that list, for the message.

    Raises:
        InvalidInputError: it is neither, or its text is no string; the message names the position.
    """
    text: object = document
    if isinstance(document, Mapping):
        if TEXT_FIELD not in document:
            raise InvalidInputError(
                f"{what}[{position}] is a mapping without a {TEXT_FIELD!r} field; its fields are "
                f"{sorted(map(str, document))[:10]}"
            )
        text = document[TEXT_FIELD]
    if not isinstance(text, str):
        kind = "None" if text is None else "NaN" if _is_nan(text) else type(text).__name__
        field = f"[{TEXT_FIELD!r}]" if isinstance(document, Mapping) else ""
        hint = "; leave missing values out, or fill them in, first" if kind in _MISSING else ""
        raise InvalidInputError(
            f"{what}[{position}]{field} is {kind}: a string expected, or a mapping with a {TEXT_FIELD!r} field{hint}"
        )
    return encodable(text)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def document_texts(documents: Sequence[Document], what: str = "documents") -> list[str]:
    """The texts of documents, in order.

    Raises:
        InvalidInputError: as `document_text`.
    """
    return [document_text(document, position, what) for position, document in enumerate(documents)]


def pair_texts(pairs: Iterable[tuple[str, Document]]) -> tuple[list[str], list[str]]:
    """Split pairs into queries and document texts of equal length.

    Raises:
        InvalidInputError: an item is no pair, or its query or document is unusable; the message names the position.
    """
    queries, documents = [], []
    for position, pair in enumerate(as_list(pairs, "pairs", "(query, document) tuples")):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:  # noqa: PLR2004
            raise InvalidInputError(f"pairs[{position}] is {pair!r:.80}: a (query, document) tuple expected")
        queries.append(query_text(pair[0], f"query of pairs[{position}]"))
        documents.append(document_text(pair[1], position, "document of pairs"))
    return queries, documents


def checked_top_k(top_k: int | None, candidates: int) -> int:
    """How many results to give: all for None, and never more than there are candidates.

    Raises:
        InvalidInputError: it is negative or no whole number.
    """
    if top_k is None:
        return candidates
    return min(whole_number("top_k", top_k, 0, otherwise=", or None for all"), candidates)


def encodable(text: str) -> str:
    """Replace lone surrogates, which no UTF-8 tokenizer accepts, by U+FFFD, the replacement character."""
    return _SURROGATES.sub("\ufffd", text) if not text.isascii() else text
