"""`crossrank tune-cascade`: the fastest cascade that keeps a stated share of the full model's ranking quality."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from crossrank.cli.bench_output import numbers_of, with_progress
from crossrank.cli.run import FAILURE, err, out, reports_errors


class MeasureOption(StrEnum):
    """What a cascade has to keep."""

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
            "first ten with the full model's counts.",
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="As for 'crossrank rerank'.")] = "default",
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
        int, typer.Option(min=1, help="Documents a query: the run's, then others of the corpus.")
    ] = 1000,
    max_lengths: Annotated[str, typer.Option(help="Tokens of a pair in early stages, comma-separated.")] = "",
    stages: Annotated[int, typer.Option(min=2, max=3, help="Stages of a cascade at most.")] = 2,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; default: the cores there are.")] = None,
    confirm: Annotated[int, typer.Option(min=0, help="Queries to run the chosen cascade and the full model on.")] = 2,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep scores here; a later run goes on from them.")
    ] = None,
    toml: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the cascade for --cascade.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the trade-off as PNG.")] = None,
) -> None:
    """Find a cascade; scoring all candidates at every length takes minutes a query on a few cores."""
    from crossrank.benchmarks.cascade_report import toml_text, trade_off_table, write_plot
    from crossrank.benchmarks.tune_cascade import MAX_LENGTHS, TuningPlan, tune_cascade

    plan = TuningPlan(
        model=model,
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
    result = with_progress(lambda progress: tune_cascade(plan, progress=progress))
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if plot is not None:
        write_plot(result, plot)
    table = trade_off_table(result)
    rendered = Table(box=None, pad_edge=False, header_style="bold", title=table.title, title_justify="left")
    for column in table.columns:
        rendered.add_column(column, justify="left" if column in {table.columns[0], "what"} else "right")
    for cells in table.rows:
        rendered.add_row(*cells)
    console = out()
    console.print(rendered)
    console.print(table.note)
    text = toml_text(result)
    if text is None:
        err().print(f"no cascade keeps {share:.0%} of the full model's quality; try more lengths, or --stages 3")
        raise typer.Exit(FAILURE)
    if toml is None:
        console.print("\n" + text)
    else:
        toml.write_text(text, encoding="utf-8")
