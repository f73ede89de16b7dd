"""TREC run files, read and written: a line `query Q0 document rank score tag` for each ranked document."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossrank.errors import InvalidInputError
from crossrank.evaluation.output_file import write_file

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

_COLUMNS = 6


def read_run(path: str | Path, documents: Container[str] | None = None) -> dict[str, tuple[str, ...]]:
    """Read a run.

    Documents are ordered by rank; where ranks are equal (some tools write 0 everywhere) by score, the highest first,
    then by identifier.

    Args:
        path: the file.
        documents: identifiers of the corpus; None accepts any.

    Returns:
        Query identifier to document identifiers, best first.

    Raises:
        InvalidInputError: a line holds something else, a document comes twice for a query, or is not in the corpus;
            the message has file and line.
    """
    ranked: dict[str, dict[str, tuple[int, float]]] = {}
    for number, line in numbered_lines(Path(path)):
        fields = line.split()
        rank, score = (whole_number(fields[3]), _number(fields[4])) if len(fields) == _COLUMNS else (None, None)
        if rank is None or rank < 0 or score is None:
            raise InvalidInputError(
                f"{path}, line {number}: 'query Q0 document rank score tag' expected, rank and score numbers"
            )
        query, document = fields[0], fields[2]
        if documents is not None and document not in documents:
            raise InvalidInputError(f"{path}, line {number}: document {document!r} is not in the corpus")
        own = ranked.setdefault(query, {})
        if document in own:
            raise InvalidInputError(f"{path}, line {number}: document {document!r} comes twice for query {query!r}")
        own[document] = (rank, -score)
    return {
        query: tuple(name for _, name in sorted((place, name) for name, place in own.items()))
        for query, own in ranked.items()
    }


def write_run(path: str | Path, rankings: Mapping[str, Sequence[tuple[str, float]]], *, tag: str = "crossrank") -> None:
    """Write a run, whole or not at all; its folder is made if it does not exist.

    trec_eval orders by score and ignores ranks. So that every tool reads the order given, a score that is not below
    the one before it is written as the next lower float32.

    Args:
        path: the file.
        rankings: query identifier to (document identifier, score), best first.
        tag: name of the run.

    Raises:
        InvalidInputError: an identifier or the tag is empty or has blanks, which the format cannot hold.
    """
    lines = []
    for query, ranking in rankings.items():
        before = np.float32(np.inf)
        for rank, (document, score) in enumerate(ranking, start=1):
            for what, name in (("query", query), ("document", document), ("tag", tag)):
                if name.split() != [name]:
                    raise InvalidInputError(f"{what} {name!r}: a run file takes names without blanks only")
            before = min(np.float32(score), np.nextafter(before, np.float32(-np.inf)))
            lines.append(f"{query} Q0 {document} {rank} {before} {tag}\n")
    write_file(Path(path), "".join(lines))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 file that are not blank, with their numbers from 1.

    Raises:
        InvalidInputError: the file does not exist or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line.rstrip("\n")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise InvalidInputError(
            f"{path} is not there or is a folder; a file of a collection in BEIR's layout, or a TREC run, expected"
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8: {error}") from error


def whole_number(text: str) -> int | None:
    """The number a text says; None where it says something else, or has more digits than Python converts."""
    try:
        return int(text)
    except ValueError:
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number
