"""Latency and throughput against offered load, as a PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.load.measure import SMALLEST
from crossrank.evaluation.dependencies import require_matplotlib

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_COLOURS = ("#c0392b", "#e08e0b", "#2e8b57", "#7d5ba6", "#1b4f9c")


def write_load_plot(contenders: Mapping[str, Any], folder: Path) -> Path:
    """Write `load.png`: on the left latency of the smallest requests, on the right pairs done, against pairs offered.

    Args:
        contenders: the figures.
        folder: made if it is not there.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    there = [(name, entry["points"]) for name, entry in contenders.items() if "failed" not in entry]
    for (name, points), colour in zip(there, _COLOURS * len(there), strict=False):
        offered = [point["offered_pairs_per_second"] for point in points]
        done = [point["done_pairs_per_second"] for point in points]
        for key, style in (("p50", "-"), ("p99", "--")):
            seconds = [point["small_latency"].get(key, float("nan")) * 1e3 for point in points]
            left.plot(offered, seconds, style, color=colour, marker="o", markersize=4, label=f"{name}, {key}")
        right.plot(offered, done, "-", color=colour, marker="o", markersize=4, label=name)
    left.set_yscale("log")
    left.set_ylabel("milliseconds")
    left.set_title(f"requests of {SMALLEST} candidates among larger ones", fontsize=11)
    right.set_ylabel("pairs done a second")
    right.set_title("throughput", fontsize=11)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("pairs offered a second")
        axes.grid(visible=True, which="both", color="0.9", linewidth=0.6)
        if there:
            axes.legend(fontsize=8, framealpha=1.0, edgecolor="none")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    path = folder / "load.png"
    figure.savefig(path, dpi=150)
    return path
