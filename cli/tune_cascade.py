"""`crossrank tune-cascade`: the fastest cascade that keeps a stated share of the full model's ranking quality."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossrank.cli.bench_output import check_files, numbers_of, print_tables, with_progress, write_file
from crossrank.cli.common import FAILURE, err, out, reports_errors

if TYPE_CHECKING:
    from collections.abc import Mapping


class MeasureOption(StrEnum):
    """The quality of which a cascade has to keep a share."""

    ndcg = "ndcg"
    overlap = "overlap"


@reports_errors
def tune_cascade_command(  # noqa: PLR0913  one parameter an option
    context: typer.Context,  # noqa: ARG001
    *,
    collection: Annotated[
        list[Path],
        typer.Option(
            metavar="BEIR_FOLDER",
            help="Queries and documents to tune on; may be given several times. Without judgements, the overlap of the "
            "first ten with the full model's is measured.",
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="Full model, as for 'crossrank rerank'.")] = "default",
    early_model: Annotated[
        str | None, typer.Option(help="Model of the stages before the last; default: the full model.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Share of the full model's quality to keep, in every collection.")
    ] = 0.98,
    measure: Annotated[
        MeasureOption, typer.Option(help="What to keep: nDCG@10, or the full model's first ten.")
    ] = MeasureOption.ndcg,
    least_overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the full model's first ten to keep in any case.")
    ] = 0.5,
    queries: Annotated[int, typer.Option(min=1, help="Queries of each collection, evenly spread.")] = 20,
    candidates: Annotated[
        int, typer.Option(min=1, help="Documents per query: the run's, then others of the corpus.")
    ] = 1000,
    max_lengths: Annotated[str, typer.Option(help="Tokens of a pair in early stages, comma-separated.")] = "",
    stages: Annotated[int, typer.Option(min=2, max=3, help="Stages of a cascade at most.")] = 2,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; default: all available cores.")] = None,
    confirm: Annotated[int, typer.Option(min=0, help="Queries to run the chosen cascade and the full model on.")] = 2,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Store scores here; a later run reuses them.")
    ] = None,
    toml: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the cascade for --cascade.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the trade-off as PNG.")] = None,
) -> None:
    """Find a cascade. Scoring all candidates at every length takes minutes per query on a few cores."""
    from crossrank.benchmarks.cascade.tune import MAX_LENGTHS, TuningPlan, tune_cascade
    from crossrank.benchmarks.cascade.tuning_report import toml_text, trade_off_table
    from crossrank.evaluation.dependencies import require_matplotlib

    plan = TuningPlan(
        model=model,
        early_model=early_model,
        collections=collection,
        queries=queries,
        candidates=candidates,
        share=share,
        measure=measure.value,
        least_overlap=least_overlap,
        max_lengths=numbers_of("max-lengths", max_lengths) or MAX_LENGTHS,
        stages=stages,
        threads=threads,
        scores=scores,
        confirm=confirm,
    )
    check_files({"--scores": scores, "--toml": toml, "--json": json_file, "--plot": plot})
    if plot is not None:
        require_matplotlib()
    result = with_progress(lambda progress: tune_cascade(plan, progress=progress))
    text = toml_text(result)
    try:
        print_tables([trade_off_table(result)])  # first, so that no figures are lost if a file cannot be written
        if text is not None and toml is None:
            out().print("\n" + text)
    finally:
        _write(result, text, toml, json_file, plot)
    if text is None:
        err().print(f"no cascade keeps {share:.0%} of the full model's quality; try more lengths, or --stages 3")
        raise typer.Exit(FAILURE)


def _write(
    result: Mapping[str, Any], text: str | None, toml: Path | None, json_file: Path | None, plot: Path | None
) -> None:
    if toml is not None and text is not None:
        write_file(toml, text)
    if json_file is not None:
        write_file(json_file, json.dumps(result, indent=2) + "\n")
    if plot is not None:
        from crossrank.benchmarks.cascade.tuning_report import write_plot

        plot.parent.mkdir(parents=True, exist_ok=True)
        write_plot(result, plot)
