"""The figures under load as tables and as a plot."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.load.measure import SMALLEST
from crossrank.evaluation.dependencies import require_matplotlib
from crossrank.evaluation.report_table import ReportTable, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_COLOURS = ("#c0392b", "#e08e0b", "#2e8b57", "#7d5ba6", "#1b4f9c")


def load_tables(contenders: Mapping[str, Any]) -> list[ReportTable]:
    """Tables of throughput, latency against load, and recovery, as far as they were measured.

    Args:
        contenders: the result of `measure_load`.
    """
    measured = {name: entry for name, entry in contenders.items() if "failed" not in entry}
    tables = [_throughput(contenders)]
    tables += [_points(name, entry) for name, entry in measured.items() if entry["points"]]
    tables += [_recovery(name, entry["recovery"]) for name, entry in measured.items() if "recovery" in entry]
    return tables


def write_load_plot(contenders: Mapping[str, Any], folder: Path) -> Path:
    """Write `load.png`: latency of the smallest requests (left) and pairs done (right) against pairs offered.

    Args:
        contenders: the result of `measure_load`.
        folder: made if it does not exist.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    measured = [(name, entry["points"]) for name, entry in contenders.items() if "failed" not in entry]
    for (name, points), colour in zip(measured, _COLOURS * len(measured), strict=False):
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
        if measured:
            axes.legend(fontsize=8, framealpha=1.0, edgecolor="none")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    path = folder / "load.png"
    figure.savefig(path, dpi=150)
    return path


def _throughput(contenders: Mapping[str, Any]) -> ReportTable:
    rows = [
        (name, "", "", "", "", entry["failed"])
        if "failed" in entry
        else (
            name,
            f"{entry['one_caller_pairs_per_second']:.1f}",
            f"{entry['saturated_pairs_per_second']:.1f}",
            _ratio_of_turns(entry["turns"]),
            milliseconds(entry["idle_small_p50"]),
            entry["title"],
        )
        for name, entry in contenders.items()
    ]
    return ReportTable(
        "Throughput with one caller and with many",
        (
            "contender",
            "one caller, pairs/s",
            "saturated, pairs/s",
            "saturated to one, turn by turn",
            f"{SMALLEST} candidates idle, ms",
            "what",
        ),
        tuple(rows),
    )


def _ratio_of_turns(turns: Mapping[str, Sequence[float]]) -> str:
    ratios = [many / one for one, many in zip(turns["one_caller"], turns["saturated"], strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _points(name: str, entry: Mapping[str, Any]) -> ReportTable:
    idle = entry["idle_small_p50"]
    rows = []
    for point in entry["points"]:
        memory = point["memory_mib"]
        small = point["small_latency"]
        rows.append(
            (
                f"{point['load']:.0%}",
                f"{point['offered_pairs_per_second']:.1f}",
                f"{point['done_pairs_per_second']:.1f}",
                *(_cell(point["latency"], key) for key in ("p50", "p90", "p99")),
                _cell(small, "p99"),
                f"{small['p99'] / idle:.1f}" if small else "",
                f"{point['shed_share']:.1%}" if point["requests"] else "",
                f"{point['late_share']:.1%}" if point["requests"] else "",
                f"{point['cpu_share']:.0%}",
                f"{memory['first']:.0f} to {memory['largest']:.0f}" if memory else "",
            )
        )
    columns = (
        "load",
        "offered pairs/s",
        "done pairs/s",
        "p50, ms",
        "p90, ms",
        "p99, ms",
        f"p99 of {SMALLEST}, ms",
        "times idle",
        "shed",
        "not done",
        "CPU",
        "memory, MiB",
    )
    note = (
        "Load is a share of this contender's own saturated throughput. Latencies count from the moment a request was "
        "due; of requests not done at the end, the time until then."
    )
    without_requests = [f"{point['load']:.0%}" for point in entry["points"] if not point["requests"]]
    if without_requests:
        note += f" No request arrived at {', '.join(without_requests)}: so low a load needs more --seconds."
    return ReportTable(f"Under load: {name}", columns, tuple(rows), note)


def _recovery(name: str, recovery: Mapping[str, Any]) -> ReportTable:
    rows = []
    for phase, figures in recovery["phases"].items():
        errors = {kind: count for kind, count in figures["kinds"].items() if kind not in {"ok", "shed", "late"}}
        rows.append(
            (
                phase,
                str(figures["requests"]),
                *(_cell(figures["latency"], key) for key in ("p50", "p99")),
                _cell(figures["small_latency"], "p99"),
                f"{figures['shed_share']:.1%}" if figures["requests"] else "",
                ", ".join(f"{count} {kind}" for kind, count in errors.items()) or "none",
            )
        )
    memory = [mib for _, mib in recovery["memory"]]
    note = (
        f"Memory: {memory[0]:.0f} MiB at first, {max(memory):.0f} at most, {memory[-1]:.0f} at last." if memory else ""
    )
    columns = ("what", "requests", "p50, ms", "p99, ms", f"p99 of {SMALLEST}, ms", "shed", "errors")
    return ReportTable(f"Twice the saturating load, and after: {name}", columns, tuple(rows), note)


def _cell(latency: Mapping[str, float], key: str) -> str:
    return milliseconds(latency[key]) if latency else ""
