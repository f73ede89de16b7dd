"""Long documents: what reading windows does to ranking quality, and what it costs.

Test collections of abstracts have no long documents, so some are made: the corpus is dealt into groups of a few
documents, in an order that is random but always the same, and each group is joined to one. It is as relevant as its
most relevant part. Where that part lies is left to chance, so reading the beginning only misses some.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.benchmarks.harness.candidates import evenly_spread
from crossrank.benchmarks.harness.engine_options import engine_options
from crossrank.engine.text.windows import Windows
from crossrank.errors import InvalidInputError, TruncationWarning
from crossrank.evaluation.beir import read_collection, read_judged_collection
from crossrank.evaluation.collection import Collection
from crossrank.evaluation.dependencies import require_ir_measures
from crossrank.evaluation.measures import ndcg
from crossrank.evaluation.report_table import ReportTable, milliseconds
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.result import Setup
    from crossrank.engine.text.windows import Aggregation, LongDocuments
    from crossrank.models.manifest import Provider

JOINED = 4
DEPTH = 30
WINDOW_COUNTS = (1, 2, 4, 8, 16)
_AGGREGATIONS: tuple[Aggregation, ...] = ("max", "top-mean")
_TIMED_DOCUMENTS = 4


def join_documents(collection: Collection, joined: int = JOINED) -> Collection:
    """A collection whose documents are groups of another's.

    Args:
        collection: with a run and judgements.
        joined: documents of a group.

    Returns:
        Groups named after their parts; a group's grade is its parts' highest, its rank in the run their best.
    """
    names = list(collection.documents)
    dealt = [names[index] for index in np.random.default_rng(0).permutation(len(names))]
    groups = [dealt[start : start + joined] for start in range(0, len(dealt) - joined + 1, joined)]
    group_of = {name: "+".join(group) for group in groups for name in group}
    judgements: dict[str, dict[str, int]] = {}
    for query, grades in collection.judgements.items():
        own = judgements.setdefault(query, {})
        for name, grade in grades.items():
            if name in group_of:
                own[group_of[name]] = max(own.get(group_of[name], grade), grade)
    runs = {
        query: tuple(dict.fromkeys(group_of[name] for name in ranked if name in group_of))
        for query, ranked in collection.runs.items()
    }
    documents = {"+".join(group): " ".join(collection.documents[name] for name in group) for group in groups}
    return Collection(documents, collection.queries, judgements, runs, collection.name)


def read_long_documents(folder: Path) -> Collection:
    """Read a BEIR folder, its documents joined.

    Raises:
        InvalidInputError: the folder has no judgements or no run, or no query that both are for.
    """
    long = join_documents(read_judged_collection(folder))
    if not _usable_queries(long):
        raise InvalidInputError(
            f"{folder}: none of its {len(long.queries)} queries has documents in the run and one with a grade above "
            f"0, joined by {JOINED}; a run and judgements of the queries in queries.jsonl expected"
        )
    return long


def _usable_queries(long: Collection) -> list[str]:
    return [query for query in long.queries if long.has_relevant(query) and long.runs.get(query)]


@dataclass(frozen=True)
class WindowTime:
    """Seconds to rank documents that are encoded already, with so many windows each."""

    windows: int
    documents: int
    seconds: float


@dataclass(frozen=True)
class ReadingFigures:
    """One way to read long documents: nDCG@10, windows a document on average, seconds that scoring took."""

    ndcg: float
    windows: float
    seconds: float


@dataclass(frozen=True)
class LongDocumentFigures:
    """One collection of joined documents, reranked to a depth, by each way to read."""

    collection: str
    queries: int
    depth: int
    ways: dict[str, ReadingFigures]


@dataclass(frozen=True)
class WindowFigures:
    """Times by windows, and the collections measured so far."""

    window_times: tuple[WindowTime, ...]
    long_documents: tuple[LongDocumentFigures, ...] = ()

    def tables(self) -> list[ReportTable]:
        """Quality of the collections, and times."""
        cells = tuple(
            (
                str(row.windows),
                milliseconds(row.seconds / row.documents),
                milliseconds(row.seconds / row.documents / row.windows),
            )
            for row in self.window_times
        )
        times = ReportTable("Time by windows", ("windows a document", "ms a document", "ms a window"), cells)
        return [self._quality(), times] if self.long_documents else [times]

    def _quality(self) -> ReportTable:
        ways = list(self.long_documents[0].ways)
        cells = tuple(
            (
                own.collection,
                str(own.queries),
                *(f"{own.ways[way].ndcg:.4f}" for way in ways),
                f"{own.ways[ways[-1]].windows:.1f}",
            )
            for own in self.long_documents
        )
        note = f"Documents joined by fours; the first {self.long_documents[0].depth} of BM25's order reranked."
        columns = ("collection", "queries", *ways, "windows a document")
        return ReportTable("nDCG@10 on long documents", columns, cells, note)

    def write_plots(self, folder: Path) -> list[Path]:  # noqa: ARG002
        """There is no plot of these figures."""
        return []


def measure_windows(
    setup: Setup,
    progress: Callable[[str], None],
    *,
    folders: Sequence[Path],
    queries: int | None,
) -> Iterator[WindowFigures]:
    """Time windows, then judge ways to read the documents of each folder.

    Times come first: only they tell whether the first folder's texts have so many windows.

    Yields:
        The figures after the times and after each folder.

    Raises:
        InvalidInputError: as `measure_window_times` and `read_long_documents` say.
    """
    artifact, provider = setup.artifacts[setup.first], setup.subject.provider
    progress("times by windows")
    text = " ".join(read_collection(folders[0]).documents.values())
    times = measure_window_times(artifact, text, setup.conditions.text.query, provider=provider)
    yield WindowFigures(times)
    measured: list[LongDocumentFigures] = []
    for folder in folders:
        measured.append(measure_long_documents(artifact, folder, queries=queries, provider=provider, progress=progress))
        yield WindowFigures(times, tuple(measured))


def check_folders(folders: Sequence[Path]) -> None:
    """Read every folder as `measure_windows` will, and see to what judges rankings.

    Raises:
        InvalidInputError: as `read_long_documents` says.
        MissingDependencyError: ir-measures is not installed.
    """
    require_ir_measures()
    for folder in folders:
        read_long_documents(folder)


def measure_long_documents(
    artifact: Path,
    folder: Path,
    *,
    queries: int | None = None,
    depth: int = DEPTH,
    threads: int | None = None,
    provider: Provider = "cpu",
    progress: Callable[[str], None] = lambda _: None,
) -> LongDocumentFigures:
    """Rerank joined documents by their beginning, and by windows with each aggregation.

    Args:
        artifact: the model's.
        folder: BEIR folder with judgements and one `*.trec` run.
        queries: how many of those with judgements, evenly spread; None takes all.
        depth: joined documents of the run to rerank.
        threads: processor threads.
        provider: execution provider.
        progress: called with what is going on.

    Returns:
        nDCG@10 of each way to read, windows a document on average, and the seconds that scoring took.

    Raises:
        InvalidInputError: the folder has no judgements, no run, or none for its queries.
    """
    long = read_long_documents(folder)
    chosen = evenly_spread(_usable_queries(long), queries)
    ranked = {query: long.runs[query][:depth] for query in chosen}
    judged = {query: long.judgements[query] for query in chosen}
    documents = sum(map(len, ranked.values()))
    figures: dict[str, ReadingFigures] = {}
    ways: dict[str, LongDocuments] = {name: Windows(aggregation=name) for name in _AGGREGATIONS}
    for name, reading in {"truncate": "truncate", **ways}.items():
        rankings: dict[str, list[str]] = {}
        read, seconds = 0, 0.0
        with Reranker(artifact, threads=threads, long_documents=reading, **engine_options(provider)) as reranker:
            for index, query in enumerate(chosen, start=1):
                progress(f"{folder.name}, long documents: {name}, query {index} of {len(chosen)}")
                started = time.perf_counter()
                ranking = reranker.rank(long.queries[query], [long.documents[own] for own in ranked[query]])
                seconds += time.perf_counter() - started
                read += sum(item.window.count if item.window else 1 for item in ranking)
                rankings[query] = [ranked[query][item.index] for item in ranking]
        figures[name] = ReadingFigures(ndcg(judged, rankings), read / documents, seconds)
    return LongDocumentFigures(folder.name, len(chosen), depth, figures)


def measure_window_times(
    artifact: Path,
    text: str,
    query: str,
    *,
    counts: Sequence[int] = WINDOW_COUNTS,
    threads: int | None = None,
    provider: Provider = "cpu",
) -> tuple[WindowTime, ...]:
    """Seconds to rank a few documents that are encoded already, by the number of windows read of each.

    Args:
        artifact: the model's.
        text: long enough for the largest number of windows, four times over.
        query: to score.
        counts: numbers of windows.
        threads: processor threads.
        provider: execution provider.

    Raises:
        InvalidInputError: the text is too short.
    """
    rows = []
    length = len(text) // _TIMED_DOCUMENTS
    documents = [text[index * length : (index + 1) * length] for index in range(_TIMED_DOCUMENTS)]
    for count in counts:
        windows = Windows(max_windows_per_document=count)
        with (
            Reranker(artifact, threads=threads, long_documents=windows, **engine_options(provider)) as reranker,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", TruncationWarning)  # the bound is what is measured
            prepared = reranker.prepare(documents)  # whole documents are encoded, however many windows are read
            reranker.score(query, [documents[0][:1000]])
            started = time.perf_counter()
            ranking = reranker.rank(query, prepared)
            seconds = time.perf_counter() - started
        read = [item.window.count if item.window else 0 for item in ranking]
        if min(read) < count:
            raise InvalidInputError(
                f"all documents joined to {_TIMED_DOCUMENTS}, the text has {min(read)} windows a document; {count} "
                "expected: windows are timed on a larger collection"
            )
        rows.append(WindowTime(count, len(documents), seconds))
    return tuple(rows)
