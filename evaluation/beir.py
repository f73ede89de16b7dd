"""Reading a collection in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/*.tsv, and a TREC run beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.errors import InvalidInputError
from crossrank.evaluation.collection import Collection, add_judgement
from crossrank.evaluation.trec_run import numbered_lines, read_run, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator

_QRELS_COLUMNS = 3


def read_collection(folder: str | Path, run: str | Path | None = None) -> Collection:
    """Read a BEIR folder. The judgements are `qrels/test.tsv` or the only `*.tsv` file there.

    Args:
        folder: the collection's.
        run: TREC run of the first stage; None takes the folder's only `*.trec` file, if it has one.

    Raises:
        InvalidInputError: a file is missing or holds something else, or several could be meant; the message has the
            file and line.
    """
    folder = Path(folder)
    documents = {
        name: f"{record.get('title') or ''} {record['text']}".strip()
        for name, record in _records(folder / "corpus.jsonl")
    }
    queries = {name: str(record["text"]) for name, record in _records(folder / "queries.jsonl")}
    if not documents or not queries:
        raise InvalidInputError(f"{folder}: {len(documents)} documents and {len(queries)} queries; some expected")
    qrels = _judgement_file(folder / "qrels")
    runs = [Path(run)] if run is not None else sorted(folder.glob("*.trec"))
    if len(runs) > 1:
        raise InvalidInputError(f"{folder} has {len(runs)} *.trec files; one run expected, or none")
    return Collection(
        documents,
        queries,
        {} if qrels is None else _read_judgements(qrels),
        read_run(runs[0], documents) if runs else {},
        folder.absolute().name,
    )


def read_judged_collection(folder: Path, run: str | Path | None = None) -> Collection:
    """Read a BEIR folder that rankings are judged on.

    Args:
        folder: the collection's.
        run: as for `read_collection`.

    Raises:
        InvalidInputError: as for `read_collection`, or there are no judgements or no run.
    """
    collection = read_collection(folder, run)
    if not collection.judgements or not collection.runs:
        raise InvalidInputError(f"{folder}: judgements in qrels/*.tsv and one *.trec run expected")
    return collection


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSONL file with their identifiers."""
    names: set[str] = set()
    for number, line in numbered_lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # besides JSONDecodeError: digits or brackets without end
            raise InvalidInputError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(record, dict) or "_id" not in record or not isinstance(record.get("text"), str):
            raise InvalidInputError(f"{path}, line {number}: an object with '_id' and a string 'text' expected")
        name = str(record["_id"])
        if name in names:
            raise InvalidInputError(f"{path}, line {number}: '_id' {name!r} comes a second time")
        names.add(name)
        yield name, record


def _judgement_file(folder: Path) -> Path | None:
    files = sorted(folder.glob("*.tsv"))
    found = [path for path in files if path.name == "test.tsv"] or files
    if len(found) > 1:
        raise InvalidInputError(
            f"{folder} has {', '.join(path.name for path in found)}; test.tsv or a single file expected"
        )
    return found[0] if found else None


def _read_judgements(path: Path) -> dict[str, dict[str, int]]:
    judgements: dict[str, dict[str, int]] = {}
    for number, line in numbered_lines(path):
        fields = line.split("\t")
        grade = whole_number(fields[-1])
        if number == 1 and _is_column_name(fields[-1]):
            continue  # the header
        if len(fields) != _QRELS_COLUMNS or grade is None:
            raise InvalidInputError(
                f"{path}, line {number}: query, document and grade between tabs expected, the grade a whole number"
            )
        add_judgement(judgements, fields[0], fields[1], grade, f"{path}, line {number}")
    return judgements


def _is_column_name(text: str) -> bool:
    """Whether a field says something, and no number; a wrong grade such as 1.0 is no name of a column."""
    try:
        float(text)
    except ValueError:
        return bool(text.strip())
    return False
