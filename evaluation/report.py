"""An evaluation as a table and as a plot: quality beside latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.evaluation.measures import GAIN_FORMULAS
from crossrank.evaluation.report_plot import label_axes, new_figure, save_figure
from crossrank.evaluation.report_table import ReportTable, milliseconds

if TYPE_CHECKING:
    from pathlib import Path

    from crossrank.evaluation.result import EvaluatedModel, Evaluation

_SMALLEST_P = 0.001


def evaluation_table(evaluation: Evaluation) -> ReportTable:
    """A row for the first stage and each model: measures, difference from the first model, milliseconds a query."""
    first = evaluation.measures[0]
    several = len(evaluation.models) > 2  # the first stage, and more than one model
    columns = ["model", "precision", *evaluation.measures, f"{first} difference", "p", "ms p50", "ms p90"]
    columns += ["Kendall tau", "top-10 overlap"] * several
    rows = []
    for model in evaluation.models:
        means, latency = model.means(), model.latency()
        row = [model.name, model.precision, *(f"{means[name]:.4f}" for name in evaluation.measures)]
        row += _difference(model, first)
        row += [milliseconds(latency[name]) for name in ("p50", "p90")] if latency else ["", ""]
        if several:
            row += ["" if value is None else f"{value:.3f}" for value in (model.kendall_tau, model.top10_overlap)]
        rows.append(tuple(row))
    return ReportTable(f"Ranking quality: {evaluation.collection}", tuple(columns), tuple(rows), _note(evaluation))


def write_plot(evaluation: Evaluation, path: Path) -> None:
    """Write a PNG: the first measure against milliseconds a query, the first stage as a line.

    Args:
        evaluation: to draw.
        path: of the file; its folder is made if it does not exist.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    measure = evaluation.measures[0]
    medians = [model.latency()["p50"] for model in evaluation.models if model.seconds]
    logarithmic = max(medians) > 10 * min(medians)
    figure, (axes,) = new_figure()
    title = f"{evaluation.collection}, first {evaluation.depth} of the run reranked"
    label_axes(axes, title, "milliseconds a query, median", measure, log_x=logarithmic)
    for model in evaluation.models:
        latency, value = model.latency(), model.means()[measure]
        if latency:
            axes.plot(latency["p50"] * 1e3, value, "o", markersize=8, label=f"{model.name}, {value:.3f}")
        else:
            axes.axhline(value, color="0.4", linewidth=1, linestyle=":", label=f"{model.name}, {value:.3f}")
    if not logarithmic:
        axes.set_xlim(0, 1.1e3 * max(medians))
    save_figure(figure, path, below=True)


def _difference(model: EvaluatedModel, measure: str) -> list[str]:
    comparison = model.comparisons.get(measure)
    if comparison is None:
        return ["", ""]
    p_value = f"{comparison.p_value:.3f}" if comparison.p_value >= _SMALLEST_P else f"< {_SMALLEST_P}"
    return [f"{comparison.difference:+.4f}", p_value]


def _note(evaluation: Evaluation) -> str:
    queries = len(evaluation.queries)
    parts = [
        f"{queries} queries, the first {evaluation.depth} documents of the run reranked.",
        f"nDCG with {evaluation.gain} gain: {GAIN_FORMULAS[evaluation.gain]}.",
        "Difference from the first model; p of a two-sided paired randomization test, not corrected for several.",
        "Milliseconds from the query's texts to its scores.",
    ]
    if evaluation.unjudged:
        parts.append(f"{evaluation.unjudged} queries without judgements left out.")
    if evaluation.without_candidates:
        parts.append(f"{evaluation.without_candidates} judged queries without documents in the run left out.")
    parts += [
        f"{model.name}: {model.kept} of {queries} queries scored by an earlier evaluation, with their times from then."
        for model in evaluation.models
        if model.kept
    ]
    return " ".join(parts)
