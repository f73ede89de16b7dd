"""The figures under load, as tables and as a plot."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from crossrank.benchmarks.load.arrivals import SMALLEST
from crossrank.evaluation.report_plot import label_axes, new_figure, save_figure
from crossrank.evaluation.report_table import ReportTable, milliseconds

if TYPE_CHECKING:
    from pathlib import Path

    from crossrank.benchmarks.harness.sampling import Percentiles

_COLOURS = ("#c0392b", "#e08e0b", "#2e8b57", "#7d5ba6", "#1b4f9c")


@dataclass(frozen=True)
class Turns:
    """Pairs a second of one caller and of many, turn by turn."""

    one_caller: tuple[float, ...]
    saturated: tuple[float, ...]


@dataclass(frozen=True)
class Throughput:
    """Medians over the turns of one caller and of many, and of the smallest requests' seconds on an idle contender."""

    one_caller_pairs_per_second: float
    saturated_pairs_per_second: float
    turns: Turns
    idle_small_p50: float


@dataclass(frozen=True)
class MemoryRange:
    """Resident memory over a phase, in MiB."""

    first: float
    largest: float
    last: float


@dataclass(frozen=True, kw_only=True)
class PhaseFigures:
    """What became of the requests of one phase.

    Attributes:
        requests: that arrived.
        offered_pairs_per_second: of all of them.
        done_pairs_per_second: of those done before the phase ended.
        kinds: how many ended how: 'ok', 'shed', 'late' or an error's name.
        shed_share: share that was refused.
        late_share: share that was not done at the end.
        latency: of those that were done or late; None if there are none.
        small_latency: of the smallest among them.
        cpu_share: of all cores.
        memory_mib: of the process; None if it was not seen.
    """

    requests: int
    offered_pairs_per_second: float
    done_pairs_per_second: float
    kinds: dict[str, int]
    shed_share: float
    late_share: float
    latency: Percentiles | None
    small_latency: Percentiles | None
    cpu_share: float
    memory_mib: MemoryRange | None

    def shed(self) -> str:
        """The share that was refused, as text."""
        return f"{self.shed_share:.1%}" if self.requests else ""


@dataclass(frozen=True, kw_only=True)
class LoadPoint(PhaseFigures):
    """Figures at one offered load, a share of the contender's own saturated throughput."""

    load: float


@dataclass(frozen=True)
class Recovery:
    """Phases before, during and after an overload, and memory: (seconds, MiB)."""

    phases: dict[str, PhaseFigures]
    memory: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ContenderLoad:
    """One contender, as far as it was measured; `failed` says why not further."""

    title: str
    throughput: Throughput | None = None
    points: tuple[LoadPoint, ...] = ()
    recovery: Recovery | None = None
    failed: str | None = None


@dataclass(frozen=True)
class LoadFigures:
    """What documents requests were made of, and the contenders measured so far."""

    documents: str
    load: dict[str, ContenderLoad]

    def tables(self) -> list[ReportTable]:
        """Throughput, latency against load, and recovery, as far as they were measured."""
        entries = self.load.items()
        tables = [_throughput(self.load)]
        tables += [_points(name, own) for name, own in entries if own.points]
        tables += [_recovery(name, own.recovery) for name, own in entries if own.recovery is not None]
        return tables

    def write_plots(self, folder: Path) -> list[Path]:
        """Write `load.png`: latency of the smallest requests (left) and pairs done (right) against pairs offered."""
        figure, (left, right) = new_figure(2, size=(10, 4.4))
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

        offered_label = "pairs offered a second"
        title = f"requests of {SMALLEST} candidates among larger ones"
        label_axes(left, title, offered_label, "milliseconds", log_x=True, log_y=True)
        label_axes(right, "throughput", offered_label, "pairs done a second", log_x=True)
        measured = [(name, own) for name, own in self.load.items() if own.points]
        for (name, own), colour in zip(measured, itertools.cycle(_COLOURS), strict=False):
            offered = [point.offered_pairs_per_second for point in own.points]
            small = [point.small_latency for point in own.points]
            lines = {
                "p50": ("-", [one.p50 * 1e3 if one else float("nan") for one in small]),
                "p99": ("--", [one.p99 * 1e3 if one else float("nan") for one in small]),
            }
            for label, (style, values) in lines.items():
                left.plot(offered, values, style, color=colour, marker="o", markersize=4, label=f"{name}, {label}")
            done = [point.done_pairs_per_second for point in own.points]
            right.plot(offered, done, "-", color=colour, marker="o", markersize=4, label=name)
        for axes in (left, right):
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        return [save_figure(figure, folder / "load.png")]


def _throughput(load: dict[str, ContenderLoad]) -> ReportTable:
    rows = []
    for name, own in load.items():
        cells = ["", "", "", ""]
        if own.throughput is not None:
            turns = own.throughput.turns
            ratios = [many / one for one, many in zip(turns.one_caller, turns.saturated, strict=True)]
            cells = [
                f"{own.throughput.one_caller_pairs_per_second:.1f}",
                f"{own.throughput.saturated_pairs_per_second:.1f}",
                f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                milliseconds(own.throughput.idle_small_p50),
            ]
        rows.append((name, *cells, own.failed or own.title))
    columns = (
        "contender",
        "one caller, pairs/s",
        "saturated, pairs/s",
        "saturated to one, turn by turn",
        f"{SMALLEST} candidates idle, ms",
        "what",
    )
    return ReportTable("Throughput with one caller and with many", columns, tuple(rows))


def _points(name: str, own: ContenderLoad) -> ReportTable:
    idle = own.throughput.idle_small_p50 if own.throughput else float("nan")
    rows = tuple(
        (
            f"{point.load:.0%}",
            f"{point.offered_pairs_per_second:.1f}",
            f"{point.done_pairs_per_second:.1f}",
            *_cells(point.latency),
            _cells(point.small_latency)[-1],
            f"{point.small_latency.p99 / idle:.1f}" if point.small_latency else "",
            point.shed(),
            f"{point.late_share:.1%}" if point.requests else "",
            f"{point.cpu_share:.0%}",
            f"{point.memory_mib.first:.0f} to {point.memory_mib.largest:.0f}" if point.memory_mib else "",
        )
        for point in own.points
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
    without_requests = [f"{point.load:.0%}" for point in own.points if not point.requests]
    if without_requests:
        note += f" No request arrived at {', '.join(without_requests)}: so low a load needs more --seconds."
    return ReportTable(f"Under load: {name}", columns, rows, note)


def _recovery(name: str, recovery: Recovery) -> ReportTable:
    rows = []
    for phase, figures in recovery.phases.items():
        errors = {kind: count for kind, count in figures.kinds.items() if kind not in {"ok", "shed", "late"}}
        p50, _, p99 = _cells(figures.latency)
        small = _cells(figures.small_latency)[-1]
        what = ", ".join(f"{count} {kind}" for kind, count in errors.items()) or "none"
        rows.append((phase, str(figures.requests), p50, p99, small, figures.shed(), what))
    memory = [mib for _, mib in recovery.memory]
    note = (
        f"Memory: {memory[0]:.0f} MiB at first, {max(memory):.0f} at most, {memory[-1]:.0f} at last." if memory else ""
    )
    columns = ("what", "requests", "p50, ms", "p99, ms", f"p99 of {SMALLEST}, ms", "shed", "errors")
    return ReportTable(f"Twice the saturating load, and after: {name}", columns, tuple(rows), note)


def _cells(latency: Percentiles | None) -> tuple[str, str, str]:
    if latency is None:
        return ("", "", "")
    return (milliseconds(latency.p50), milliseconds(latency.p90), milliseconds(latency.p99))
