"""Ranking quality under time limits, and whether the limits are kept: `rank(deadline_ms=...)` on many candidates."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from crossrank.benchmarks.harness.candidates import chosen_candidates
from crossrank.benchmarks.harness.engine_options import engine_options
from crossrank.benchmarks.harness.sampling import Percentiles, percentiles
from crossrank.evaluation.beir import read_judged_collection
from crossrank.evaluation.dependencies import require_ir_measures
from crossrank.evaluation.measures import ndcg
from crossrank.evaluation.report_plot import COLOURS, label_axes, new_figure, save_figure
from crossrank.evaluation.report_table import ReportTable, milliseconds
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.result import Setup
    from crossrank.models.manifest import Precision, Provider

LIMITS_MS = (50, 100, 200, 500, 1000, 2000, 5000)
CANDIDATES = 1000
_WARM_UP_MS = 2000


@dataclass(frozen=True)
class LimitFigures:
    """Calls under one limit.

    Attributes:
        limit_ms: the limit; None for calls without one.
        calls: how many.
        ndcg: nDCG@10, mean.
        scored: documents that were scored, mean.
        seconds: of the calls.
        over_seconds: time beyond the limit, negative for calls that ended before it; None without a limit.
        kept: share of calls that exceeded the limit by at most a tenth of it and the longest single run; likewise.
    """

    limit_ms: float | None
    calls: int
    ndcg: float
    scored: float
    seconds: Percentiles | None
    over_seconds: Percentiles | None = None
    kept: float | None = None


@dataclass(frozen=True)
class CollectionDeadlines:
    """One collection ranked under every limit.

    Attributes:
        collection: its name.
        queries: that were ranked.
        candidates: of each query.
        precision: of the graph.
        first_stage: nDCG@10 of the first-stage order.
        limits: figures of each limit.
    """

    collection: str
    queries: int
    candidates: int
    precision: Precision
    first_stage: float
    limits: tuple[LimitFigures, ...]

    def table(self) -> ReportTable:
        """A row for the first stage and one for each limit."""
        rows = [("first stage", "0 (first-stage order)", f"{self.first_stage:.4f}", "0", "", "", "")]
        rows += [
            (
                f"{limit.calls} calls",
                "none" if limit.limit_ms is None else f"{limit.limit_ms:g}",
                f"{limit.ndcg:.4f}",
                f"{limit.scored:.0f}",
                "" if limit.seconds is None else milliseconds(limit.seconds.p50),
                "" if limit.over_seconds is None else milliseconds(limit.over_seconds.p99),
                "" if limit.kept is None else f"{limit.kept:.1%}",
            )
            for limit in self.limits
        ]
        columns = ("what", "limit, ms", "nDCG@10", "scored", "time p50, ms", "over the limit p99, ms", "kept")
        note = (
            f"{self.queries} queries, {self.candidates} candidates each in first-stage order, {self.precision}. Kept: "
            "calls that exceeded the limit by at most a tenth of it and the longest single run. Time over the limit is "
            "negative for calls that ended before it."
        )
        return ReportTable(f"Ranking under a time limit: {self.collection}", columns, tuple(rows), note)


@dataclass(frozen=True)
class DeadlineFigures:
    """The collections measured so far."""

    deadlines: tuple[CollectionDeadlines, ...]

    def tables(self) -> list[ReportTable]:
        """One for each collection."""
        return [figures.table() for figures in self.deadlines]

    def write_plots(self, folder: Path) -> list[Path]:
        """Write `deadlines.png`: nDCG@10 of the first stage, then under each limit, then without one.

        The limits are as far apart as each other: what has neither time nor limit has no place on a scale of times.
        """
        figure, (axes,) = new_figure()
        title = f"ranking {self.deadlines[0].candidates} candidates under a time limit"
        label_axes(axes, title, "time limit, milliseconds", "nDCG@10")
        limits = sorted(
            {limit.limit_ms for each in self.deadlines for limit in each.limits if limit.limit_ms is not None}
        )
        for figures, colour in zip(self.deadlines, itertools.cycle(COLOURS), strict=False):
            label = figures.collection
            points = {0: figures.first_stage}
            for limit in figures.limits:
                place = len(limits) if limit.limit_ms is None else limits.index(limit.limit_ms)
                points[place + 1] = limit.ndcg
                if limit.limit_ms is None and limit.seconds is not None:
                    label = f"{label}, without a limit {limit.seconds.p50:.1f} s"
            places = sorted(points)
            axes.plot(places, [points[place] for place in places], marker="o", markersize=5, color=colour, label=label)
        axes.set_xticks(range(len(limits) + 2), ["first stage", *(f"{limit:g}" for limit in limits), "no limit"])
        return [save_figure(figure, folder / "deadlines.png")]


def measure_deadlines(
    setup: Setup,
    progress: Callable[[str], None],
    *,
    folders: Sequence[Path],
    queries: int | None,
    limits_ms: Sequence[float],
    candidates: int,
    rounds: int,
) -> Iterator[DeadlineFigures]:
    """Rank several collections under every limit and without one; see `rank_under_limits`.

    Yields:
        The figures after each collection.
    """
    measured: list[CollectionDeadlines] = []
    for folder in folders:
        measured.append(
            rank_under_limits(
                setup.artifacts[setup.first],
                folder,
                precision=setup.first,
                queries=queries,
                limits_ms=(*limits_ms, None),
                candidates=candidates,
                rounds=rounds,
                provider=setup.subject.provider,
                progress=progress,
            )
        )
        yield DeadlineFigures(tuple(measured))


def check_folders(folders: Sequence[Path], *, queries: int | None, candidates: int) -> None:
    """Read every folder as `measure_deadlines` will, and see to what judges rankings.

    Raises:
        InvalidInputError: as `rank_under_limits` says.
        MissingDependencyError: ir-measures is not installed.
    """
    require_ir_measures()
    for folder in folders:
        chosen_candidates(folder, read_judged_collection(folder), queries, candidates)


def rank_under_limits(  # noqa: PLR0913  one parameter an option
    artifact: Path,
    folder: Path,
    *,
    precision: Precision,
    queries: int | None = None,
    limits_ms: Sequence[float | None] = (*LIMITS_MS, None),
    candidates: int = CANDIDATES,
    rounds: int = 1,
    provider: Provider = "cpu",
    progress: Callable[[str], None] = lambda _: None,
) -> CollectionDeadlines:
    """Rank the same candidates under every limit, in turn.

    The candidates are the documents of the run, best first, then others of the corpus. They are scored in this
    first-stage order.

    Args:
        artifact: folder of the model's artifact.
        folder: BEIR folder with judgements and one `*.trec` run.
        precision: of the graph.
        queries: how many of those with judgements, evenly spread; None takes all.
        limits_ms: the limits; None among them ranks without a limit.
        candidates: of each query.
        rounds: how often every query is ranked under every limit; without a limit it is ranked once.
        provider: execution provider.
        progress: called with each step as it begins.

    Returns:
        nDCG@10 of the first-stage order, and for each limit nDCG@10, documents scored, and the time over the limit.

    Raises:
        InvalidInputError: the folder has no judgements, none for its queries, no run, or too few documents.
        MissingDependencyError: ir-measures is not installed.
    """
    collection = read_judged_collection(folder)
    candidates_of = chosen_candidates(folder, collection, queries, candidates)
    judged = {query: collection.judgements.get(query, {}) for query in candidates_of}
    first_stage = ndcg(judged, candidates_of)
    calls_of: dict[float | None, list[_Call]] = {}
    runs: list[float] = []
    with Reranker(artifact, precision=precision, activation="identity", **engine_options(provider)) as reranker:

        def call(query: str, limit_ms: float | None) -> _Call:
            names = candidates_of[query]
            documents = [collection.documents[name] for name in names]
            runs.clear()
            started = time.perf_counter()
            ranking = reranker.rank(collection.queries[query], documents, return_documents=False, deadline_ms=limit_ms)
            seconds = time.perf_counter() - started
            order = [names[document.index] for document in ranking]
            return _Call(query, seconds, len(names) - len(ranking.unscored), order, max(runs, default=0.0))

        call(next(iter(candidates_of)), _WARM_UP_MS)
        reranker.observe_batches(lambda batch: runs.append(batch.seconds))
        for round_number in range(rounds):
            for number, query in enumerate(candidates_of, start=1):
                progress(f"deadlines: {folder.name}, round {round_number + 1}, query {number} of {len(candidates_of)}")
                for limit in limits_ms:
                    if limit is not None or round_number == 0:
                        calls_of.setdefault(limit, []).append(call(query, limit))
    limits = tuple(_summary(limit, of_limit, judged) for limit, of_limit in calls_of.items())
    return CollectionDeadlines(folder.name, len(candidates_of), candidates, precision, first_stage, limits)


@dataclass(frozen=True)
class _Call:
    query: str
    seconds: float
    scored: int
    ranking: list[str]
    longest_run: float


def _summary(limit_ms: float | None, calls: Sequence[_Call], judged: dict[str, dict[str, int]]) -> LimitFigures:
    seconds = np.asarray([call.seconds for call in calls])
    figures = LimitFigures(
        limit_ms,
        len(calls),
        float(np.mean([ndcg({call.query: judged[call.query]}, {call.query: call.ranking}) for call in calls])),
        float(np.mean([call.scored for call in calls])),
        percentiles(seconds.tolist()),
    )
    if limit_ms is None:
        return figures
    over = seconds - limit_ms / 1000
    allowed = 0.1 * limit_ms / 1000 + np.asarray([call.longest_run for call in calls])
    return replace(figures, over_seconds=percentiles(over.tolist()), kept=float((over <= allowed).mean()))
