"""The figures of HTTP services under load, as a table and as a plot."""

from __future__ import annotations

from dataclasses import dataclass

# pydantic reads the fields' types when a result file is read, so they are imported when the module runs.
from pathlib import Path  # noqa: TC003

from crossrank.benchmarks.harness.environment import RunDescription  # noqa: TC001
from crossrank.benchmarks.harness.sampling import Percentiles  # noqa: TC001
from crossrank.evaluation.report_plot import label_axes, new_figure, save_figure
from crossrank.evaluation.report_table import ReportTable, milliseconds

_COLOURS = {"crossrank": "#c0392b", "infinity": "#2e8b57", "fastapi": "#1b4f9c"}


@dataclass(frozen=True, kw_only=True)
class HttpPoint:
    """What became of the requests at one offered load.

    Attributes:
        load: share of the service's own saturated throughput.
        requests: that came.
        offered_pairs_per_second: of all of them.
        done_pairs_per_second: of those that were answered with scores.
        latency: of those and of the late ones, in seconds from when each was due; None if there are none.
        kinds: how many ended how: 'ok', 'shed', 'late', 'connection' or another status.
        memory_mb: least and most that the service's processes held, in megabytes.
    """

    load: float
    requests: int
    offered_pairs_per_second: float
    done_pairs_per_second: float
    latency: Percentiles | None
    kinds: dict[str, int]
    memory_mb: tuple[float, float]


@dataclass(frozen=True)
class ServiceLoad:
    """One service: what it was measured with, pairs a second of waiting callers, and each offered load."""

    conditions: RunDescription
    saturated_pairs_per_second: float
    points: tuple[HttpPoint, ...]


@dataclass(frozen=True)
class HttpFigures:
    """Services by their names."""

    services: dict[str, ServiceLoad]

    def tables(self) -> list[ReportTable]:
        """A row for each service and load."""
        rows = [_row(name, point) for name, service in self.services.items() for point in service.points]
        columns = (
            "contender",
            "load",
            "offered pairs/s",
            "done pairs/s",
            "p50, ms",
            "p90, ms",
            "p99, ms",
            "requests",
            "shed",
            "not done",
            "MB",
        )
        note = (
            "Load is a share of this service's own saturated throughput; latencies count from when a request was due."
        )
        return [ReportTable("HTTP services under load", columns, tuple(rows), note)]

    def write_plots(self, folder: Path) -> list[Path]:
        """Write `http-load.png`: latency (left) and pairs done (right) against pairs offered."""
        figure, (left, right) = new_figure(2, size=(10, 4.2))
        label_axes(left, "latency of answered requests", "pairs offered a second", "milliseconds", log_y=True)
        label_axes(right, "throughput", "pairs offered a second", "pairs done a second")
        for name, service in self.services.items():
            offered = [point.offered_pairs_per_second for point in service.points]
            latencies = [point.latency for point in service.points]
            lines = {
                "p50": ("-", [one.p50 * 1e3 if one else float("nan") for one in latencies]),
                "p99": ("--", [one.p99 * 1e3 if one else float("nan") for one in latencies]),
            }
            for label, (style, values) in lines.items():
                left.plot(
                    offered, values, style, marker="o", markersize=4, color=_COLOURS[name], label=f"{name}, {label}"
                )
            done = [point.done_pairs_per_second for point in service.points]
            right.plot(offered, done, marker="o", markersize=4, color=_COLOURS[name], label=name)
        return [save_figure(figure, folder / "http-load.png")]


def _row(name: str, point: HttpPoint) -> tuple[str, ...]:
    latency, requests, shed = point.latency, point.requests, point.kinds.get("shed", 0)
    others = sum(point.kinds.values()) - point.kinds.get("ok", 0) - shed
    return (
        name,
        f"{point.load:.0%}",
        f"{point.offered_pairs_per_second:.0f}",
        f"{point.done_pairs_per_second:.0f}",
        *((milliseconds(latency.p50), milliseconds(latency.p90), milliseconds(latency.p99)) if latency else ("",) * 3),
        str(requests),
        *(f"{count / requests:.0%}" if requests else "" for count in (shed, others)),
        "{:.0f} to {:.0f}".format(*point.memory_mb),
    )
