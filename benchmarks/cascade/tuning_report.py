"""The result of tuning as a table, as a plot, and as a TOML file for `--cascade`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.cascade.tune import chosen_stages
from crossrank.cascade_file import stages_as_toml
from crossrank.evaluation.dependencies import require_matplotlib
from crossrank.evaluation.report_table import ReportTable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def trade_off_table(result: Mapping[str, Any]) -> ReportTable:
    """The trials that no faster one matches in quality and overlap, fastest first; the chosen one is marked.

    Trials are compared by the collection where their quality or overlap is lowest.

    Args:
        result: what `tune_cascade` returned.
    """
    names = [collection["name"] for collection in result["collections"]]
    rows = []
    best: list[tuple[float, float]] = []
    for trial in result["trials"]:
        worst_quality, worst_overlap = min(trial["quality"].values()), min(trial["overlap"].values())
        if any(worst_quality <= quality and worst_overlap <= overlap for quality, overlap in best):
            continue
        best.append((worst_quality, worst_overlap))
        cells = [f"{trial['quality'][name]:.3f} ({trial['low_quality'][name]:.3f})" for name in names]
        cells += [f"{trial['overlap'][name]:.2f}" for name in names]
        chosen = "chosen" if trial == result["chosen"] else ""
        rows.append((_stages(trial), f"{trial['time_share']:.0%}", *cells, chosen))
    columns = ("stages before the full model", "time", *names, *(f"top 10 of {name}" for name in names), "what")
    notes = [
        f"Time and quality are shares of the full model's on {result['candidates']} candidates.",
        "Times are predicted from those of the stages; in brackets the fifth percentile over resampled queries.",
        *(_confirmation(entry) for entry in result.get("confirmed", ())),
    ]
    if result["early_model"]["name"] != result["model"]["name"]:
        notes.insert(0, f"Stages before the full model, {result['model']['name']}: {result['early_model']['name']}.")
    if result["chosen"] is None:
        required = f"{result['share']:.0%} of the quality and {result['least_overlap']:.0%} of the first ten"
        notes.append(f"No cascade keeps {required} in every collection.")
    return ReportTable(
        "Cascades that no faster one matches in quality and overlap", columns, tuple(rows), " ".join(notes)
    )


def toml_text(result: Mapping[str, Any]) -> str | None:
    """The chosen cascade as `crossrank rerank --cascade` reads it; None if no cascade was chosen.

    Args:
        result: what `tune_cascade` returned.
    """
    stages = chosen_stages(result)
    if stages is None:
        return None
    shares = ", ".join(f"{name} {share:.3f}" for name, share in result["chosen"]["quality"].items())
    queries = ", ".join(f"{entry['queries']} queries of {entry['name']}" for entry in result["collections"])
    comment = (
        f"crossrank tune-cascade, {result['date']}: {queries}, {result['candidates']} candidates each.\n"
        f"Predicted time {result['chosen']['time_share']:.0%} of the full model's; {result['measure']} kept: {shares}."
    )
    return stages_as_toml(stages, comment)


def write_plot(result: Mapping[str, Any], path: Path) -> None:
    """Write a plot of quality against time, with a line for each length of the first of two stages.

    Args:
        result: what `tune_cascade` returned.
        path: the PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    lines: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for trial in result["trials"]:
        if len(trial["stages"]) == 1:
            point = (100 * trial["time_share"], 100 * min(trial["quality"].values()))
            lines[trial["stages"][0]["max_length"]].append(point)
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    for length, points in sorted(lines.items()):
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.2, label=f"{length} tokens first")
    axes.axhline(100 * result["share"], color="0.4", linewidth=1, linestyle=":")
    if result["chosen"] is not None:
        quality = 100 * min(result["chosen"]["quality"].values())
        axes.plot(100 * result["chosen"]["time_share"], quality, "k*", markersize=13, label=_stages(result["chosen"]))
    axes.set_xlabel("time, % of the full model's")
    axes.set_ylabel("quality kept, % of the full model's (worst collection)")
    axes.set_title(f"cascades on {result['candidates']} candidates, then the full model", fontsize=11)
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    axes.legend(fontsize=8, edgecolor="none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)


def _stages(trial: Mapping[str, Any]) -> str:
    return ", ".join(f"{stage['max_length']} tokens keep {stage['keep']}" for stage in trial["stages"])


def _confirmation(entry: Mapping[str, Any]) -> str:
    share = entry["time_share"]
    return (
        f"{entry['collection']}, run on {len(entry['seconds']['full'])} queries: {share['median']:.0%} of the full "
        f"model's time ({share['smallest']:.0%}-{share['largest']:.0%})."
    )
