"""Which share of this machine's ceiling for matrix products scoring reaches, by length of the pairs."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.benchmarks.ceiling.operations import operations_per_pair
from crossrank.benchmarks.ceiling.product_rates import Ceiling
from crossrank.benchmarks.harness.engine_options import engine_options
from crossrank.engine.config import DEFAULT_BATCH_TOKENS
from crossrank.engine.runtime.cores import available_cores
from crossrank.errors import InvalidInputError
from crossrank.evaluation.report_plot import PRECISION_COLOURS, label_axes, new_figure, save_figure
from crossrank.evaluation.report_table import ReportTable, milliseconds
from crossrank.models.artifact import Artifact
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from crossrank.benchmarks.ceiling.matrix_products import ProductPrecision
    from crossrank.benchmarks.harness.result import Setup
    from crossrank.benchmarks.harness.workloads import WorkloadMaker
    from crossrank.models.manifest import Provider

PAIR_TOKENS = (32, 128, 256, 512)
_PAIRS_PER_CORE = 8
_PRECISIONS: dict[Provider, tuple[ProductPrecision, ...]] = {"cpu": ("fp32", "int8"), "cuda": ("fp16", "fp32")}
_PRODUCT_SECONDS = 0.1
_COLUMNS = (
    "precision",
    "tokens a pair",
    "Gop a pair",
    "ms a pair",
    "with encoding",
    "Gop/s reached",
    "Gop/s ceiling",
    "share",
)


@dataclass(frozen=True)
class CeilingRow:
    """One precision at one length.

    Attributes:
        precision: of the graph.
        pair_tokens: tokens of a pair.
        pairs: of a call.
        operations_per_pair: that its score needs.
        seconds_per_pair: scoring documents that are encoded already, median.
        call_seconds_per_pair: whole calls, median.
        reached_operations_per_second: while scoring.
        ceiling_operations_per_second: median over the shapes of the products.
        shape_operations_per_second: of each shape.
        share: of the ceiling that scoring reaches, median over the rounds.
        shares: of each round.
    """

    precision: ProductPrecision
    pair_tokens: int
    pairs: int
    operations_per_pair: int
    seconds_per_pair: float
    call_seconds_per_pair: float
    reached_operations_per_second: float
    ceiling_operations_per_second: float
    shape_operations_per_second: dict[str, float]
    share: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class CeilingFigures:
    """The rows measured so far.

    Attributes:
        rounds: of each row.
        cores: that were used; None on a GPU.
        ceiling: the rows.
    """

    rounds: int
    cores: int | None
    ceiling: tuple[CeilingRow, ...]

    def tables(self) -> list[ReportTable]:
        """A row a precision and length."""
        cells = tuple(
            (
                row.precision,
                str(row.pair_tokens),
                f"{row.operations_per_pair / 1e9:.3f}",
                milliseconds(row.seconds_per_pair),
                milliseconds(row.call_seconds_per_pair),
                f"{row.reached_operations_per_second / 1e9:.0f}",
                f"{row.ceiling_operations_per_second / 1e9:.0f}",
                f"{row.share:.0%} ({min(row.shares):.0%}-{max(row.shares):.0%})",
            )
            for row in self.ceiling
        )
        machine = "One GPU" if self.cores is None else f"{self.cores} cores"
        note = (
            f"{machine}, {self.rounds} rounds of ceiling and scoring in turn: medians; the share is taken "
            "round by round, with its smallest and largest value in brackets. Operations are those of the pruned "
            "model; the ceiling is the median over the matrix products of a layer."
        )
        return [ReportTable("Share of the matrix-product ceiling", _COLUMNS, cells, note)]

    def write_plots(self, folder: Path) -> list[Path]:
        """Write `ceiling.png`: a bar for each share."""
        rows = self.ceiling
        figure, (axes,) = new_figure(size=(7, 4.2))
        from matplotlib.ticker import PercentFormatter

        label_axes(axes, "share of the matrix-product ceiling", "tokens of a pair", "")
        axes.grid(visible=False)
        lengths = sorted({row.pair_tokens for row in rows})
        precisions = list(dict.fromkeys(row.precision for row in rows))
        width = 0.8 / len(precisions)
        for index, precision in enumerate(precisions):
            shares = {row.pair_tokens: row.share for row in rows if row.precision == precision}
            left = [lengths.index(tokens) + (index - (len(precisions) - 1) / 2) * width for tokens in shares]
            colour = PRECISION_COLOURS[precision]
            bars = axes.bar(left, list(shares.values()), width * 0.92, color=colour, label=precision)
            axes.bar_label(bars, [f"{share:.0%}" for share in shares.values()], padding=2, fontsize=9)
        axes.axhline(1.0, color="0.4", linewidth=1)
        axes.set_xticks(range(len(lengths)), [str(tokens) for tokens in lengths])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(0, 1.15 * max(1.0, *(row.share for row in rows)))
        return [save_figure(figure, folder / "ceiling.png")]


def measure_ceiling(
    setup: Setup,
    progress: Callable[[str], None],
    *,
    rounds: int = 5,
    pair_tokens: Sequence[int] = PAIR_TOKENS,
) -> Iterator[CeilingFigures]:
    """Measure ceiling and scoring in turn, round by round, on all cores or on a GPU.

    The share is that of scoring documents which were encoded before; whole calls, from text to scores, are timed as
    well. Only operations that the scores need are counted. The share is taken round by round, because the speed of a
    shared machine drifts.

    Args:
        setup: what is measured; fp32 and int8 on the CPU, fp16 and fp32 on CUDA.
        progress: called with each step as it begins.
        rounds: how often each length is measured.
        pair_tokens: lengths to measure.

    Yields:
        The figures after each precision and length.

    Raises:
        MissingDependencyError: onnx is not installed.
        InvalidInputError: a manifest lacks the model's dimensions, or the query leaves no room in the shortest pair.
    """
    setup.maker.of_pair_length(min(pair_tokens), 1)
    provider = setup.subject.provider
    rows: list[CeilingRow] = []
    for precision in _PRECISIONS[provider]:
        for tokens in pair_tokens if precision in setup.artifacts else ():
            progress(f"ceiling: {precision}, {tokens} tokens")
            rows.append(_row(setup.artifacts[precision], precision, setup.maker, tokens, rounds, provider))
            yield CeilingFigures(rounds, None if provider == "cuda" else available_cores(), tuple(rows))


def _row(
    folder: Path, precision: ProductPrecision, maker: WorkloadMaker, tokens: int, rounds: int, provider: Provider
) -> CeilingRow:
    manifest = Artifact.open(folder).manifest
    architecture = manifest.architecture
    if not (architecture.hidden_size and architecture.intermediate_size and architecture.num_hidden_layers):
        raise InvalidInputError(
            f"{folder}: its manifest lacks the model's dimensions, which the ceiling needs; an artifact of a model "
            "with them in its config.json expected"
        )
    cores = available_cores()
    # A GPU needs a whole run of pairs to be busy, a core needs one pair.
    pairs = DEFAULT_BATCH_TOKENS["cuda"] // tokens if provider == "cuda" else _PAIRS_PER_CORE * cores
    rows = pairs * tokens if provider == "cuda" else tokens
    workload = maker.of_pair_length(tokens, pairs)
    ceiling = Ceiling(architecture, rows, precision, threads=cores, provider=provider)
    times, call_times, ceilings = [], [], []
    with Reranker(folder, precision=precision, **engine_options(provider)) as reranker:
        reranker.score(workload.query, workload.documents)
        prepared = reranker.prepare(workload.documents)
        for _ in range(rounds):
            ceilings.append(ceiling.measure(_PRODUCT_SECONDS))
            started = time.perf_counter()
            reranker.score(workload.query, prepared)
            scored = time.perf_counter()
            reranker.score(workload.query, workload.documents)
            times.append(scored - started)
            call_times.append(time.perf_counter() - scored)
    operations = operations_per_pair(architecture, tokens, labels=manifest.num_labels)
    seconds = statistics.median(times) / pairs
    shares = [operations.total * pairs / (elapsed * rate) for elapsed, rate in zip(times, ceilings, strict=True)]
    return CeilingRow(
        precision=precision,
        pair_tokens=tokens,
        pairs=pairs,
        operations_per_pair=operations.total,
        seconds_per_pair=seconds,
        call_seconds_per_pair=statistics.median(call_times) / pairs,
        reached_operations_per_second=operations.total / seconds,
        ceiling_operations_per_second=ceiling.rate,
        shape_operations_per_second=ceiling.shape_rates(),
        share=statistics.median(shares),
        shares=tuple(shares),
    )
