"""The plots of `crossrank bench`: latency against top-k, with peers, share of the ceiling, time limits."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from crossrank.evaluation.dependencies import require_matplotlib

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_COLOURS = {"fp32": "#1b4f9c", "int8": "#c0392b", "fp16": "#2e8b57"}
_OWN_COLOURS = _COLOURS | {f"crossrank-{precision}": colour for precision, colour in _COLOURS.items()}
# One for each peer.
_PEER_COLOURS = ("#e08e0b", "#7d5ba6", "#8c6d46", "#d16ba5", "#5f6a72", "#3aa6a6", "#b0a030", "#7fb0e6", "#111111")
_LENGTH_STYLES = {"short": ":", "middle": "-", "long": "--", "mixed": "-."}


def write_plots(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a PNG for each kind of figure that the result has.

    Args:
        result: what `run_benchmark` returned.
        folder: made if it does not exist.

    Returns:
        The files written.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require_matplotlib()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if result.get("latency"):
        written.append(_latency(result["latency"], folder / "latency.png"))
    curve = _curve_points(result.get("comparison", {}))
    if curve:
        written.append(_peers(curve, folder / "latency-peers.png"))
    if result.get("roofline", {}).get("rows"):
        written.append(_ceiling(result["roofline"]["rows"], folder / "ceiling.png"))
    if result.get("deadlines"):
        written.append(_deadlines(result["deadlines"], folder / "deadlines.png"))
    return written


def _curve_points(comparison: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """For each contender the points (top-k, median seconds) of the scenarios with documents of middle length."""
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for scenario in comparison.get("scenarios", ()):
        if scenario["name"].startswith("middle-"):
            for name, entry in scenario["contenders"].items():
                if "failed" not in entry:
                    points[name].append((scenario["pairs"], entry["latency"]["p50"]))
    return points


def _latency(rows: list[dict[str, Any]], path: Path) -> Path:
    lines: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        lines[row["precision"], row["documents"]].append((row["top_k"], row["latency"]["p50"]))
    figure, axes = _log_axes("crossrank: time of a call against top-k")
    for (precision, length), points in lines.items():
        ks, seconds = zip(*sorted(points), strict=True)
        axes.plot(
            ks,
            [value * 1e3 for value in seconds],
            _LENGTH_STYLES[length],
            color=_OWN_COLOURS.get(precision),
            marker="o",
            markersize=4,
            label=f"{precision}, {length} documents",
        )
    return _save(figure, axes, path)


def _peers(curve: Mapping[str, list[tuple[int, float]]], path: Path) -> Path:
    figure, axes = _log_axes("time of a call against top-k, documents of 120 tokens, same weights")
    colours = iter(_PEER_COLOURS * 2)
    for name, points in curve.items():
        ks, seconds = zip(*sorted(points), strict=True)
        is_own = name in _OWN_COLOURS
        axes.plot(
            ks,
            [value * 1e3 for value in seconds],
            "-" if is_own else "--",
            color=_OWN_COLOURS[name] if is_own else next(colours, None),
            linewidth=2.5 if is_own else 1.2,
            marker="o",
            markersize=4,
            label=name,
        )
    return _save(figure, axes, path)


def _ceiling(rows: list[dict[str, Any]], path: Path) -> Path:
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    lengths = sorted({row["pair_tokens"] for row in rows})
    precisions = list(dict.fromkeys(row["precision"] for row in rows))
    width = 0.8 / len(precisions)
    for index, precision in enumerate(precisions):
        shares = {row["pair_tokens"]: row["share"] for row in rows if row["precision"] == precision}
        left = [lengths.index(tokens) + (index - (len(precisions) - 1) / 2) * width for tokens in shares]
        bars = axes.bar(left, list(shares.values()), width * 0.92, color=_OWN_COLOURS.get(precision), label=precision)
        axes.bar_label(bars, [f"{share:.0%}" for share in shares.values()], padding=2, fontsize=9)
    axes.axhline(1.0, color="0.4", linewidth=1)
    axes.set_xticks(range(len(lengths)), [str(tokens) for tokens in lengths])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(0, 1.15 * max(1.0, *(row["share"] for row in rows)))
    axes.set_xlabel("tokens of a pair")
    axes.set_title("share of the matrix-product ceiling", fontsize=11)
    return _save(figure, axes, path)


def _deadlines(collections: list[dict[str, Any]], path: Path) -> Path:
    """nDCG@10 against the limit, with lines for the first-stage order and for ranking without a limit."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    for figures, colour in zip(collections, _PEER_COLOURS * len(collections), strict=False):
        points = [(limit["limit_ms"], limit["ndcg"]) for limit in figures["limits"] if limit["limit_ms"] is not None]
        name = figures["collection"]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colour, label=name)
        first_stage_label = f"{name}, first-stage order"
        axes.axhline(figures["first_stage"], color=colour, linewidth=1, linestyle=":", label=first_stage_label)
        for limit in figures["limits"]:
            if limit["limit_ms"] is None:
                seconds = limit["seconds"]["p50"]
                label = f"{name}, no limit ({seconds:.1f} s)"
                axes.axhline(limit["ndcg"], color=colour, linewidth=1, linestyle="--", label=label)
    axes.set_xlabel("time limit, milliseconds")
    axes.set_ylabel("nDCG@10")
    axes.set_title(f"ranking {collections[0]['candidates']} candidates under a time limit", fontsize=11)
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    limits = sorted({limit["limit_ms"] for figures in collections for limit in figures["limits"] if limit["limit_ms"]})
    axes.set_xticks(limits, [f"{limit:g}" for limit in limits])
    axes.minorticks_off()
    axes.legend(fontsize=8, framealpha=1.0, edgecolor="none", loc="best")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)
    return path


def _log_axes(title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("top-k (documents of a call)")
    axes.set_ylabel("milliseconds, median")
    axes.set_title(title, fontsize=11)
    axes.grid(visible=True, which="both", color="0.9", linewidth=0.6)
    return figure, axes


def _save(figure: Any, axes: Any, path: Path) -> Path:
    axes.legend(fontsize=8, framealpha=1.0, edgecolor="none", loc="best")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.get_xscale() == "log":
        ticks = sorted({int(x) for line in axes.get_lines() for x in line.get_xdata()})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
    figure.savefig(path, dpi=150)
    return path
