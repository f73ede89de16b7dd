"""The report's plots as SVG inside the page: in its text's colour, so that they are read in light and in dark."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.harness.workloads import DOCUMENT_TOKENS
from crossrank.evaluation.report_plot import label_axes, new_figure, set_ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossrank.benchmarks.latency.latency_grid import LatencyCell
    from crossrank.models.manifest import Precision

_INK, _GREY = "#000000", "#808080"
_MARKERS = {"fp32": "s", "fp16": "^", "int8": "o"}
_HATCHES = {"fp32": "", "fp16": "..", "int8": "////"}
_LINES = {"short": ":", "middle": "-", "long": "--"}
_XML_HEAD = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)


def call_times(cells: Sequence[LatencyCell]) -> str:
    """Median time of a call against its number of documents, with a whisker up to the 90th percentile."""
    figure, (axes,) = new_figure(size=(7.2, 4.4))
    label_axes(axes, "Time of a call", "documents of a call", "milliseconds", log_x=True, log_y=True)
    lines: dict[tuple[Precision, str], list[LatencyCell]] = defaultdict(list)
    for cell in cells:
        lines[cell.precision, cell.documents].append(cell)
    for (precision, length), points in lines.items():
        medians = [cell.latency.p50 * 1e3 for cell in points]
        above = [(cell.latency.p90 - cell.latency.p50) * 1e3 for cell in points]
        axes.errorbar(
            [cell.top_k for cell in points],
            medians,
            yerr=([0.0] * len(above), above),
            fmt=_MARKERS[precision] + _LINES[length],
            color=_INK,
            markerfacecolor="none" if precision == "fp32" else _INK,
            capsize=3,
            linewidth=1.2,
            markersize=5,
            label=f"{precision}, {length} ({points[0].mean_pair_tokens:.0f} tokens a pair)",
        )
    set_ticks(axes, (cell.top_k for cell in cells))
    return _svg(figure, "Time of a call against its number of documents")


def throughput(cells: Sequence[LatencyCell]) -> str:
    """Pairs a second in the largest call, for each length of documents and precision."""
    largest = max(cell.top_k for cell in cells)
    chosen = [cell for cell in cells if cell.top_k == largest]
    precisions = list(dict.fromkeys(cell.precision for cell in chosen))
    lengths = [length for length in DOCUMENT_TOKENS if any(cell.documents == length for cell in chosen)]
    figure, (axes,) = new_figure(size=(7.2, 3.6))
    label_axes(axes, f"Pairs a second, {largest} documents a call", "", "pairs a second")
    width = 0.8 / len(precisions)
    for number, precision in enumerate(precisions):
        own = {cell.documents: cell for cell in chosen if cell.precision == precision}
        places = [index + (number - (len(precisions) - 1) / 2) * width for index in range(len(lengths))]
        bars = axes.bar(
            places,
            [own[length].pairs_per_second for length in lengths],
            width * 0.9,
            color="none",
            edgecolor=_INK,
            hatch=_HATCHES[precision],
            label=precision,
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=9)
    tokens = {cell.documents: cell.mean_pair_tokens for cell in chosen}
    axes.set_xticks(range(len(lengths)), [f"{length}, {tokens[length]:.0f} tokens a pair" for length in lengths])
    return _svg(figure, "Pairs a second by length of documents")


def _svg(figure: Any, title: str) -> str:
    """The figure as an element of a page: text stays text, black becomes the page's colour, nothing is random."""
    import matplotlib as mpl

    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
        axes.grid(visible=True, which="both", color=_GREY, alpha=0.3, linewidth=0.6)
        axes.legend(fontsize=8, frameon=False, loc="best")
    drawn = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    svg = _METADATA.sub("", _XML_HEAD.sub("", drawn.getvalue()))
    # Where nothing is said SVG is black, so the page's colour is said at the root.
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{title}" style="color: inherit; fill: currentColor" ', 1)
    return svg.replace(_INK, "currentColor")
