"""The figures under load as tables."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.load.measure import SMALLEST
from crossrank.evaluation.report_table import ReportTable, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def load_tables(contenders: Mapping[str, Any]) -> list[ReportTable]:
    """Throughput, latency against load, and recovery, as far as they were measured."""
    there = {name: entry for name, entry in contenders.items() if "failed" not in entry}
    tables = [_throughput(contenders)]
    tables += [_points(name, entry) for name, entry in there.items() if entry["points"]]
    tables += [_recovery(name, entry["recovery"]) for name, entry in there.items() if "recovery" in entry]
    return tables


def _throughput(contenders: Mapping[str, Any]) -> ReportTable:
    rows = [
        (name, "", "", "", "", entry["failed"])
        if "failed" in entry
        else (
            name,
            f"{entry['one_caller_pairs_per_second']:.1f}",
            f"{entry['saturated_pairs_per_second']:.1f}",
            _turns(entry["turns"]),
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


def _turns(turns: Mapping[str, Sequence[float]]) -> str:
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
    empty = [f"{point['load']:.0%}" for point in entry["points"] if not point["requests"]]
    if empty:
        note += f" No request arrived at {', '.join(empty)}: longer --seconds are needed for so low a load."
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
