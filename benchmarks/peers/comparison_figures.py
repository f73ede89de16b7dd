"""The figures of the comparison: what was measured, as tables and as a plot."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.benchmarks.peers.contenders import OWN_PREFIX
from crossrank.evaluation.report_plot import (
    COLOURS,
    PRECISION_COLOURS,
    label_axes,
    new_figure,
    save_figure,
    set_ticks,
)
from crossrank.evaluation.report_table import ReportTable, milliseconds

if TYPE_CHECKING:
    from pathlib import Path

    from crossrank.benchmarks.harness.sampling import Latency, Ratio
    from crossrank.benchmarks.peers.worker_process import Loaded

CURVE = "middle-"
"""How the names of the workloads begin whose latency is drawn against top-k."""


@dataclass(frozen=True)
class Failure:
    """Why a contender has no figures."""

    failed: str


@dataclass(frozen=True)
class ContenderReport:
    """A contender: what it reported on loading, its peak memory over all scenarios, or why it failed."""

    title: str
    loaded: Loaded | None = None
    peak_mib: float | None = None
    failed: str | None = None


@dataclass(frozen=True)
class ContenderTimes:
    """A contender's times in one scenario.

    Attributes:
        seconds: of each round.
        latency: percentiles of them.
        pairs_per_second: in the median round.
        times_as_long_as: ratio to each other contender of ours.
    """

    seconds: tuple[float, ...]
    latency: Latency
    pairs_per_second: float
    times_as_long_as: dict[str, Ratio]


@dataclass(frozen=True)
class ScenarioFigures:
    """One workload on all contenders; see `Scenario`."""

    name: str
    title: str
    pairs: int
    rounds: int
    calls: int
    contenders: dict[str, ContenderTimes | Failure]

    def times(self) -> dict[str, ContenderTimes]:
        """Those of the contenders that did not fail."""
        return {name: entry for name, entry in self.contenders.items() if isinstance(entry, ContenderTimes)}

    def table(self, reports: dict[str, ContenderReport]) -> ReportTable:
        """A row a contender.

        Args:
            reports: has their titles.
        """
        references = [name for name in self.times() if name.startswith(OWN_PREFIX)]
        rows = []
        for name, entry in self.contenders.items():
            cells = ["failed", "", *("" for _ in references)]
            if isinstance(entry, ContenderTimes):
                ratios = (_ratio(entry.times_as_long_as.get(reference)) for reference in references)
                cells = [milliseconds(entry.latency.p50), f"{entry.pairs_per_second:.1f}", *ratios]
            rows.append((reports[name].title, *cells))
        note = f"{self.rounds} rounds in turn; ratios are taken round by round: median (smallest-largest)."
        if self.calls > 1:
            note += f" A round is the median of {self.calls} calls."
        columns = ("contender", "median ms", "pairs/s", *(f"time / {reference}" for reference in references))
        return ReportTable(self.title, columns, tuple(rows), note)


@dataclass(frozen=True)
class ScoreAgreement:
    """Largest difference of sigmoid scores from the reference's, and Kendall's tau with them."""

    largest_difference: float
    kendall_tau: float


@dataclass(frozen=True)
class Agreement:
    """Scores of one workload beside those of the reference, the first contender that could be asked."""

    workload: str
    reference: str | None
    contenders: dict[str, ScoreAgreement | Failure]


@dataclass(frozen=True)
class Comparison:
    """What was compared so far.

    Attributes:
        contenders: who takes part.
        absent: why each other peer does not.
        scenarios: that are finished.
        agreement: of scores; None until all scenarios are finished.
    """

    contenders: dict[str, ContenderReport]
    absent: dict[str, str]
    scenarios: tuple[ScenarioFigures, ...] = ()
    agreement: Agreement | None = None


@dataclass(frozen=True)
class PeerFigures:
    """The comparison so far."""

    comparison: Comparison

    def tables(self) -> list[ReportTable]:
        """One for each scenario, then the contenders."""
        reports = self.comparison.contenders
        return [*(scenario.table(reports) for scenario in self.comparison.scenarios), self._contenders()]

    def _contenders(self) -> ReportTable:
        agreement = self.comparison.agreement or Agreement("nothing", None, {})
        rows = []
        for name, report in self.comparison.contenders.items():
            if report.loaded is None or report.failed is not None:
                rows.append((report.title, "", "", "", "", report.failed or ""))
                continue
            scores = agreement.contenders.get(name)
            what = ", ".join(f"{package} {version}" for package, version in report.loaded.versions.items())
            difference = tau = ""
            if isinstance(scores, ScoreAgreement):
                difference, tau = f"{scores.largest_difference:.1g}", f"{scores.kendall_tau:.3f}"
            elif scores is not None:
                what = scores.failed
            peak = "" if report.peak_mib is None else f"{report.peak_mib:.0f}"
            rows.append((report.title, f"{report.loaded.seconds:.2f}", peak, difference, tau, what))
        rows.extend((name, "", "", "", "", f"left out: {reason}") for name, reason in self.comparison.absent.items())
        columns = ("contender", "load s", "peak MiB", "max |diff|", "tau", "what")
        note = (
            f"Differences of sigmoid scores, and Kendall's tau, against {agreement.reference or 'none'} "
            f"on {agreement.workload}."
        )
        return ReportTable(
            "Contenders: load, memory over all scenarios, agreement of scores", columns, tuple(rows), note
        )

    def write_plots(self, folder: Path) -> list[Path]:
        """Write `latency-peers.png`: the median against top-k, if there is more than nothing of the curve."""
        points: dict[str, dict[int, float]] = {}
        for scenario in self.comparison.scenarios:
            for name, times in scenario.times().items() if scenario.name.startswith(CURVE) else ():
                points.setdefault(name, {})[scenario.pairs] = times.latency.p50 * 1e3
        if not points:
            return []
        figure, (axes,) = new_figure()
        title = "time of a call against top-k, documents of 120 tokens, same weights"
        label_axes(axes, title, "top-k (documents of a call)", "milliseconds, median", log_x=True, log_y=True)
        own = {f"{OWN_PREFIX}-{precision}": colour for precision, colour in PRECISION_COLOURS.items()}
        colours = itertools.cycle(COLOURS)
        for name, medians in points.items():
            axes.plot(
                *zip(*sorted(medians.items()), strict=True),
                "-" if name in own else "--",
                color=own[name] if name in own else next(colours),
                linewidth=2.5 if name in own else 1.2,
                marker="o",
                markersize=4,
                label=name,
            )
        set_ticks(axes, {top_k for medians in points.values() for top_k in medians})
        return [save_figure(figure, folder / "latency-peers.png")]


def _ratio(ratio: Ratio | None) -> str:
    return "1" if ratio is None else f"{ratio.median:.2f} ({ratio.smallest:.2f}-{ratio.largest:.2f})"
