"""The result of tuning: every trial and the chosen cascade, as a table, as a plot, and as TOML for `--cascade`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.cascade_file import stages_as_toml
from crossrank.evaluation.report_plot import label_axes, new_figure, save_figure
from crossrank.evaluation.report_table import ReportTable
from crossrank.stages import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from crossrank.benchmarks.cascade.tuning_plan import Measure
    from crossrank.benchmarks.harness.sampling import Ratio
    from crossrank.engine.artifact_reranker import ArtifactReranker

PLOT = "cascade.png"


@dataclass(frozen=True)
class EarlyStage:
    """A stage before the last: tokens of a pair, and documents that it keeps."""

    max_length: int
    keep: int


@dataclass(frozen=True)
class Trial:
    """A cascade with its predicted time and quality.

    Attributes:
        stages: before the last, which is the full model.
        time_share: share of the full model's time, encoding included in both; mean of the collections.
        quality: for each collection the share of the full model's nDCG@10, or the overlap.
        low_quality: fifth percentile of the quality over resampled queries (bootstrap).
        overlap: for each collection the share of the full model's first ten that are among the cascade's first ten.
    """

    stages: tuple[EarlyStage, ...]
    time_share: float
    quality: dict[str, float]
    low_quality: dict[str, float]
    overlap: dict[str, float]

    @property
    def worst(self) -> tuple[float, float]:
        """Quality and overlap in the collections where they are lowest."""
        return min(self.quality.values()), min(self.overlap.values())

    def cascade_stages(self, early: str | ArtifactReranker, full: str | ArtifactReranker) -> list[Stage]:
        """The stages of the cascade.

        Args:
            early: model of the stages before the last.
            full: model of the last stage.
        """
        return [*(Stage(early, keep=stage.keep, max_length=stage.max_length) for stage in self.stages), Stage(full)]

    def __str__(self) -> str:
        return ", ".join(f"{stage.max_length} tokens keep {stage.keep}" for stage in self.stages)


@dataclass(frozen=True)
class TunedModel:
    """A model: name, tokens of a pair, digest of its graph."""

    name: str
    max_length: int
    graph: str


@dataclass(frozen=True)
class TunedCollection:
    """A collection, and what was measured on it.

    Attributes:
        name: of the folder.
        queries: how many.
        ndcg: the full model's nDCG@10; None if the collection is not judged.
        seconds_per_document: tokens of a pair to mean seconds of scoring.
        encoding_seconds_per_document: for the full model, mean.
        early_encoding_seconds_per_document: for the stages before; 0 where they use the full model's encoding.
    """

    name: str
    queries: int
    ndcg: float | None
    seconds_per_document: dict[int, float]
    encoding_seconds_per_document: float
    early_encoding_seconds_per_document: float


@dataclass(frozen=True)
class ConfirmedSeconds:
    """Seconds of each query's call."""

    cascade: tuple[float, ...]
    full: tuple[float, ...]


@dataclass(frozen=True)
class Confirmation:
    """The chosen cascade and the full model run in turn.

    Attributes:
        collection: its name.
        seconds: of each call.
        time_share: the cascade's time to the full model's.
        stages: seconds of each stage in each call.
    """

    collection: str
    seconds: ConfirmedSeconds
    time_share: Ratio
    stages: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class TuningFigures:
    """What tuning gave.

    Attributes:
        share: of the full model's quality to keep.
        measure: of quality.
        least_overlap: share of the full model's first ten to keep.
        candidates: of each query.
        model: the full one, of the last stage.
        early_model: of the stages before.
        collections: that were tuned on.
        trials: fastest first.
        chosen: the fastest that keeps enough; None if none does.
        confirmed: its runs.
    """

    share: float
    measure: Measure
    least_overlap: float
    candidates: int
    model: TunedModel
    early_model: TunedModel
    collections: tuple[TunedCollection, ...]
    trials: tuple[Trial, ...]
    chosen: Trial | None
    confirmed: tuple[Confirmation, ...] = ()

    def tables(self) -> list[ReportTable]:
        """The trials that no faster one matches in quality and overlap, fastest first; the chosen one is marked."""
        names = [collection.name for collection in self.collections]
        rows = []
        best: list[tuple[float, float]] = []
        for trial in self.trials:
            quality, overlap = trial.worst
            if any(quality <= other and overlap <= other_overlap for other, other_overlap in best):
                continue
            best.append(trial.worst)
            cells = [f"{trial.quality[name]:.3f} ({trial.low_quality[name]:.3f})" for name in names]
            cells += [f"{trial.overlap[name]:.2f}" for name in names]
            rows.append((str(trial), f"{trial.time_share:.0%}", *cells, "chosen" if trial == self.chosen else ""))
        columns = ("stages before the full model", "time", *names, *(f"top 10 of {name}" for name in names), "what")
        notes = [
            f"Time and quality are shares of the full model's on {self.candidates} candidates.",
            "Times are predicted from those of the stages; in brackets the fifth percentile over resampled queries.",
            *(
                f"{run.collection}, run on {len(run.seconds.full)} queries: {run.time_share.median:.0%} of the full "
                f"model's time ({run.time_share.smallest:.0%}-{run.time_share.largest:.0%})."
                for run in self.confirmed
            ),
        ]
        if self.early_model.name != self.model.name:
            notes.insert(0, f"Stages before the full model, {self.model.name}: {self.early_model.name}.")
        if self.chosen is None:
            required = f"{self.share:.0%} of the quality and {self.least_overlap:.0%} of the first ten"
            notes.append(f"No cascade keeps {required} in every collection.")
        title = "Cascades that no faster one matches in quality and overlap"
        return [ReportTable(title, columns, tuple(rows), " ".join(notes))]

    def toml_text(self, date: str) -> str | None:
        """The chosen cascade as `crossrank rerank --cascade` reads it; None if no cascade was chosen.

        Args:
            date: of the tuning.
        """
        if self.chosen is None:
            return None
        shares = ", ".join(f"{name} {share:.3f}" for name, share in self.chosen.quality.items())
        queries = ", ".join(f"{collection.queries} queries of {collection.name}" for collection in self.collections)
        comment = (
            f"crossrank bench cascade, {date}: {queries}, {self.candidates} candidates each.\n"
            f"Predicted time {self.chosen.time_share:.0%} of the full model's; {self.measure} kept: {shares}."
        )
        return stages_as_toml(self.chosen.cascade_stages(self.early_model.name, self.model.name), comment)

    def write_plots(self, folder: Path) -> list[Path]:
        """Write `cascade.png`: quality against time, with a line for each length of the first of two stages."""
        lines: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for trial in self.trials:
            if len(trial.stages) == 1:
                lines[trial.stages[0].max_length].append((100 * trial.time_share, 100 * trial.worst[0]))
        figure, (axes,) = new_figure()
        title = f"cascades on {self.candidates} candidates, then the full model"
        x, y = "time, % of the full model's", "quality kept, % of the full model's (worst collection)"
        label_axes(axes, title, x, y)
        for length, points in sorted(lines.items()):
            label = f"{length} tokens first"
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.2, label=label)
        axes.axhline(100 * self.share, color="0.4", linewidth=1, linestyle=":")
        if self.chosen is not None:
            point = (100 * self.chosen.time_share, 100 * self.chosen.worst[0])
            axes.plot(*point, "k*", markersize=13, label=str(self.chosen))
        return [save_figure(figure, folder / PLOT)]
