"""Reading a collection in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/*.tsv, and TREC runs beside them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_QRELS_COLUMNS = 3
_RUN_COLUMNS = 6


@dataclass(frozen=True)
class Collection:
    """A test collection.

    Attributes:
        documents: identifier to title + " " + text, in the file's order.
        queries: identifier to text, in the file's order.
        judgements: query identifier to {document identifier: grade}.
        runs: query identifier to document identifiers, best first; empty without a run file.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]
    runs: dict[str, tuple[str, ...]]

    def has_relevant(self, query: str) -> bool:
        """Whether a document is judged relevant to the query, with a grade above 0."""
        return any(grade > 0 for grade in self.judgements.get(query, {}).values())


def read_collection(folder: Path) -> Collection:
    """Read a BEIR folder. The run is the folder's only `*.trec` file, the judgements `qrels/test.tsv` or the only one.

    Raises:
        InvalidInputError: a file is missing or holds something else; the message has the file and line.
    """
    documents = {
        str(record["_id"]): f"{record.get('title') or ''} {record['text']}".strip()
        for record in _records(folder / "corpus.jsonl")
    }
    queries = {str(record["_id"]): str(record["text"]) for record in _records(folder / "queries.jsonl")}
    if not documents or not queries:
        raise InvalidInputError(f"{folder}: {len(documents)} documents and {len(queries)} queries; some expected")
    qrels = sorted((folder / "qrels").glob("*.tsv"))
    chosen = [path for path in qrels if path.name == "test.tsv"] or qrels[:1]
    runs = sorted(folder.glob("*.trec"))
    if len(runs) > 1:
        raise InvalidInputError(f"{folder} has {len(runs)} *.trec files; one run expected, or none")
    return Collection(
        documents,
        queries,
        _read_judgements(chosen[0]) if chosen else {},
        _read_run(runs[0], documents) if runs else {},
    )


def read_judged_collection(folder: Path) -> Collection:
    """Read a BEIR folder that rankings are judged on.

    Raises:
        InvalidInputError: as for `read_collection`, or there are no judgements or no run.
    """
    collection = read_collection(folder)
    if not collection.judgements or not collection.runs:
        raise InvalidInputError(f"{folder}: judgements in qrels/*.tsv and one *.trec run expected")
    return collection


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in _lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # besides JSONDecodeError: digits or brackets without end
            raise InvalidInputError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(record, dict) or "_id" not in record or not isinstance(record.get("text"), str):
            raise InvalidInputError(f"{path}, line {number}: an object with '_id' and a string 'text' expected")
        yield record


def _read_judgements(path: Path) -> dict[str, dict[str, int]]:
    judgements: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        fields = line.split("\t")
        grade = _whole_number(fields[-1])
        if number == 1 and grade is None:
            continue  # the header
        if len(fields) != _QRELS_COLUMNS or grade is None:
            raise InvalidInputError(
                f"{path}, line {number}: query, document and grade between tabs expected, the grade a whole number"
            )
        judgements.setdefault(fields[0], {})[fields[1]] = grade
    return judgements


def _read_run(path: Path, documents: dict[str, str]) -> dict[str, tuple[str, ...]]:
    # By rank; where ranks tie (some tools write 0 everywhere) by score, the highest first, then by identifier.
    ranked: dict[str, list[tuple[int, float, str]]] = {}
    for number, line in _lines(path):
        fields = line.split()
        rank, score = (_whole_number(fields[3]), _number(fields[4])) if len(fields) == _RUN_COLUMNS else (None, None)
        if rank is None or rank < 0 or score is None:
            raise InvalidInputError(
                f"{path}, line {number}: 'query Q0 document rank score tag' expected, rank and score numbers"
            )
        if fields[2] not in documents:
            raise InvalidInputError(f"{path}, line {number}: document {fields[2]!r} is not in the corpus")
        ranked.setdefault(fields[0], []).append((rank, -score, fields[2]))
    return {query: tuple(document for *_, document in sorted(found)) for query, found in ranked.items()}


def _whole_number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # also for more digits than Python converts
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 file that are not blank, with their numbers from 1."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line.rstrip("\n")
    except FileNotFoundError:
        raise InvalidInputError(f"{path} is not there; a folder in BEIR's layout expected") from None
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8: {error}") from error
