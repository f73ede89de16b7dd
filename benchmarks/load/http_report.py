"""The figures of HTTP services under load as a table and as a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.evaluation.dependencies import require_matplotlib

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_COLOURS = {"crossrank": "#c0392b", "infinity": "#2e8b57", "fastapi": "#1b4f9c"}


def write_http_table(results: Mapping[str, Any]) -> str:
    """A row for each service and load, as Markdown."""
    lines = [
        "| service | load | offered pairs/s | done | p50 ms | p95 ms | p99 ms | requests | shed | not done | MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, entry in results.items():
        for point in entry["points"]:
            kinds, requests = point["kinds"], point["requests"]
            others = sum(kinds.values()) - kinds.get("ok", 0) - kinds.get("shed", 0)
            cells = [
                name,
                f"{point['load']:g}",
                *(f"{point[f'{kind}_pairs_per_second']:.0f}" for kind in ("offered", "done")),
                *(f"{point[share] * 1000:.0f}" for share in ("p50", "p95", "p99")),
                str(requests),
                *(f"{count / requests:.0%}" for count in (kinds.get("shed", 0), others)),
                "{:.0f} to {:.0f}".format(*point["memory_mb"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_http_plot(results: Mapping[str, Any], folder: Path) -> Path:
    """Write `http-load.png`: latency (left) and pairs done (right) against pairs offered.

    Args:
        results: what `measure` gave for each service.
        folder: made if it does not exist.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, entry in results.items():
        offered = [point["offered_pairs_per_second"] for point in entry["points"]]
        for share, style in (("p50", "-"), ("p99", "--")):
            times = [point[share] * 1000 for point in entry["points"]]
            left.plot(offered, times, style, marker="o", markersize=4, color=_COLOURS[name], label=f"{name}, {share}")
        done = [point["done_pairs_per_second"] for point in entry["points"]]
        right.plot(offered, done, marker="o", markersize=4, color=_COLOURS[name], label=name)
    left.set_yscale("log")
    left.set_ylabel("milliseconds")
    left.set_title("latency of answered requests", fontsize=11)
    right.set_ylabel("pairs done a second")
    right.set_title("throughput", fontsize=11)
    for axes in (left, right):
        axes.set_xlabel("pairs offered a second")
        axes.grid(visible=True, which="both", color="0.9", linewidth=0.6)
        axes.legend(fontsize=8, framealpha=1.0, edgecolor="none")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    path = folder / "http-load.png"
    figure.savefig(path, dpi=150)
    return path
