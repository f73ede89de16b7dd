"""The result of tuning as a table, a plot and a file for `--cascade`."""

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
    """The trials that no other beats in time, quality and overlap at once, fastest first; the chosen one is marked.

    Quality and overlap are those of the collection where they are worst.
    """
    names = [collection["name"] for collection in result["collections"]]
    rows = []
    best: list[tuple[float, float]] = []
    for trial in result["trials"]:
        worst, common = min(trial["quality"].values()), min(trial["overlap"].values())
        if any(worst <= quality and common <= overlap for quality, overlap in best):
            continue
        best.append((worst, common))
        quality = [f"{trial['quality'][name]:.3f} ({trial['low_quality'][name]:.3f})" for name in names]
        quality += [f"{trial['overlap'][name]:.2f}" for name in names]
        chosen = "chosen" if trial == result["chosen"] else ""
        rows.append((_chain(trial), f"{trial['time_share']:.0%}", *quality, chosen))
    columns = ("stages before the full model", "time", *names, *(f"top 10 of {name}" for name in names), "what")
    notes = [
        f"Time and quality are shares of the full model's on {result['candidates']} candidates.",
        "Times are predicted from each stage's own; in brackets the fifth percentile over resampled queries.",
        *(_confirmed(entry) for entry in result.get("confirmed", ())),
    ]
    if result["chosen"] is None:
        kept = f"{result['share']:.0%}, and {result['least_overlap']:.0%} of the first ten,"
        notes.append(f"No cascade keeps {kept} in every collection.")
    return ReportTable("Cascades that no other beats", columns, tuple(rows), " ".join(notes))


def toml_text(result: Mapping[str, Any]) -> str | None:
    """The chosen cascade as `crossrank rerank --cascade` reads it; None where there is none."""
    stages = chosen_stages(result)
    if stages is None:
        return None
    kept = ", ".join(f"{name} {share:.3f}" for name, share in result["chosen"]["quality"].items())
    queries = ", ".join(f"{own['queries']} queries of {own['name']}" for own in result["collections"])
    comment = (
        f"crossrank tune-cascade, {result['date']}: {queries}, {result['candidates']} candidates each.\n"
        f"Predicted time {result['chosen']['time_share']:.0%} of the full model's; {result['measure']} kept: {kept}."
    )
    return stages_as_toml(stages, comment)


def write_plot(result: Mapping[str, Any], path: Path) -> None:
    """Quality against time, a line for each first stage of two-stage cascades, the chosen one marked.

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
        worst = 100 * min(result["chosen"]["quality"].values())
        axes.plot(100 * result["chosen"]["time_share"], worst, "k*", markersize=13, label=_chain(result["chosen"]))
    axes.set_xlabel("time, % of the full model's")
    axes.set_ylabel("quality kept, % of the full model's (worst collection)")
    axes.set_title(f"cascades on {result['candidates']} candidates, then the full model", fontsize=11)
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    axes.legend(fontsize=8, edgecolor="none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)


def _chain(trial: Mapping[str, Any]) -> str:
    return ", ".join(f"{stage['max_length']} tokens keep {stage['keep']}" for stage in trial["stages"])


def _confirmed(entry: Mapping[str, Any]) -> str:
    share = entry["time_share"]
    return (
        f"{entry['collection']}, run on {len(entry['seconds']['full'])} queries: {share['median']:.0%} of the full "
        f"model's time ({share['smallest']:.0%}-{share['largest']:.0%})."
    )
