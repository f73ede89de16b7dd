"""Latency and throughput for every combination of precision, document length and top-k."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.benchmarks.harness.engine_options import engine_options
from crossrank.benchmarks.harness.sampling import Effort, Latency, call_times, latency
from crossrank.evaluation.report_plot import PRECISION_COLOURS, label_axes, new_figure, save_figure, set_ticks
from crossrank.evaluation.report_table import ReportTable, milliseconds
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.result import Setup
    from crossrank.benchmarks.harness.workloads import DocumentLength
    from crossrank.models.manifest import Precision

_STYLES: dict[DocumentLength, str] = {"short": ":", "middle": "-", "long": "--", "mixed": "-."}


@dataclass(frozen=True)
class LatencyCell:
    """One combination.

    Attributes:
        precision: of the graph.
        documents: their length.
        top_k: how many.
        mean_pair_tokens: before truncation.
        latency: of the calls.
        pairs_per_second: in the median call.
    """

    precision: Precision
    documents: DocumentLength
    top_k: int
    mean_pair_tokens: float
    latency: Latency
    pairs_per_second: float


@dataclass(frozen=True)
class LatencyFigures:
    """The cells measured so far."""

    latency: tuple[LatencyCell, ...]

    def tables(self) -> list[ReportTable]:
        """A row a cell."""
        rows = tuple(
            (
                cell.precision,
                cell.documents,
                f"{cell.mean_pair_tokens:.0f}",
                str(cell.top_k),
                *map(milliseconds, (cell.latency.p50, cell.latency.p90, cell.latency.p99)),
                str(cell.latency.calls),
                f"{cell.pairs_per_second:.0f}",
            )
            for cell in self.latency
        )
        columns = ("precision", "documents", "tokens a pair", "top-k", "p50 ms", "p90 ms", "p99 ms", "calls", "pairs/s")
        return [ReportTable("Latency of rank(), text to ranking", columns, rows)]

    def write_plots(self, folder: Path) -> list[Path]:
        """Write `latency.png`: the median against top-k."""
        lines: dict[tuple[Precision, DocumentLength], dict[int, float]] = defaultdict(dict)
        for cell in self.latency:
            lines[cell.precision, cell.documents][cell.top_k] = cell.latency.p50 * 1e3
        figure, (axes,) = new_figure()
        title = "crossrank: time of a call against top-k"
        label_axes(axes, title, "top-k (documents of a call)", "milliseconds, median", log_x=True, log_y=True)
        for (precision, length), points in lines.items():
            axes.plot(
                *zip(*sorted(points.items()), strict=True),
                _STYLES[length],
                color=PRECISION_COLOURS[precision],
                marker="o",
                markersize=4,
                label=f"{precision}, {length} documents",
            )
        set_ticks(axes, (cell.top_k for cell in self.latency))
        return [save_figure(figure, folder / "latency.png")]


def measure_latency(
    setup: Setup,
    progress: Callable[[str], None],
    *,
    lengths: Sequence[DocumentLength],
    top_ks: Sequence[int],
    effort: Effort,
) -> Iterator[LatencyFigures]:
    """Time whole calls of `Reranker.rank`, text to ranking, for every combination.

    Args:
        setup: what is measured.
        progress: called with each step as it begins.
        lengths: document lengths.
        top_ks: numbers of documents.
        effort: how often each is called.

    Yields:
        The figures after each combination.

    Raises:
        InvalidInputError: the texts are too few for a combination.
    """
    if "mixed" in lengths:
        setup.maker.mixed(max(top_ks))
    cells: list[LatencyCell] = []
    for precision, folder in setup.artifacts.items():
        with Reranker(folder, precision=precision, **engine_options(setup.subject.provider)) as reranker:
            reranker.warmup()
            for length in lengths:
                for top_k in top_ks:
                    workload = setup.maker.of_length(length, top_k)
                    progress(f"latency: {precision}, {workload.title}")
                    documents = list(workload.documents)
                    times = latency(call_times(lambda: reranker.rank(workload.query, documents), effort))  # noqa: B023
                    tokens = sum(workload.pair_tokens) / top_k
                    cells.append(LatencyCell(precision, length, top_k, tokens, times, top_k / times.p50))
                    yield LatencyFigures(tuple(cells))
