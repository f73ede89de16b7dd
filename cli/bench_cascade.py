"""`crossrank bench cascade`: the fastest cascade that keeps a stated share of the full model's ranking quality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossrank.benchmarks.cascade.tuning_plan import MAX_LENGTHS, Measure, TuningPlan
from crossrank.cli.bench_output import Outputs, check_files, check_folder, numbers_of, run_benchmark
from crossrank.cli.common import FAILURE, err, out
from crossrank.cli.options import JsonFileOption, MarkdownOption, PlotsOption, ThreadsOption, model_names
from crossrank.evaluation.output_file import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crossrank.benchmarks.cascade.tuning_figures import TuningFigures
    from crossrank.benchmarks.harness.result import Result


def cascade_command(
    *,
    collection: Annotated[
        list[Path],
        typer.Option(
            metavar="BEIR_FOLDER",
            help="Queries and documents to tune on; may be given again. Without judgements, the overlap of the "
            "first ten with the full model's is measured.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Full model, as for 'crossrank rerank'.", autocompletion=model_names),
    ] = "default",
    early_model: Annotated[
        str | None, typer.Option(help="Model of the stages before the last; default: the full model.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Share of the full model's quality to keep, in every collection.")
    ] = 0.98,
    measure: Annotated[Measure, typer.Option(help="What to keep: nDCG@10, or the full model's first ten.")] = "ndcg",
    least_overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the full model's first ten to keep in any case.")
    ] = 0.5,
    queries: Annotated[int, typer.Option(min=1, help="Queries of each collection, evenly spread.")] = 20,
    candidates: Annotated[
        int, typer.Option(min=1, help="Documents per query: the run's, then others of the corpus.")
    ] = 1000,
    max_lengths: Annotated[str, typer.Option(help="Tokens of a pair in early stages, comma-separated.")] = "",
    stages: Annotated[int, typer.Option(min=2, max=3, help="Stages of a cascade at most.")] = 2,
    threads: ThreadsOption = None,
    confirm: Annotated[int, typer.Option(min=0, help="Queries to run the chosen cascade and the full model on.")] = 2,
    scores: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep scores here; a later run reuses them.")
    ] = None,
    toml: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the cascade for --cascade.")] = None,
    json_file: JsonFileOption = None,
    markdown: MarkdownOption = None,
    plots: PlotsOption = None,
) -> None:
    """Find a cascade. Scoring all candidates at every length takes minutes per query on a few cores."""
    from crossrank.benchmarks.cascade.tune import tune_cascade
    from crossrank.benchmarks.harness.environment import describe_run
    from crossrank.benchmarks.harness.result import results

    plan = TuningPlan(
        model=model,
        early_model=early_model,
        collections=collection,
        queries=queries,
        candidates=candidates,
        share=share,
        measure=measure,
        least_overlap=least_overlap,
        max_lengths=numbers_of("max-lengths", max_lengths, empty=True) or MAX_LENGTHS,
        stages=stages,
        threads=threads,
        scores=scores,
        confirm=confirm,
    )
    check_files({"--toml": toml})
    if scores is not None:
        check_folder("--scores", scores)
    outputs = Outputs(json_file, markdown, plots)
    run = describe_run()
    chosen: str | None = None

    def parts(progress: Callable[[str], None]) -> Iterator[Result[TuningFigures]]:
        nonlocal chosen
        for result in results(run, tune_cascade(plan, progress=progress)):
            chosen = result.figures.toml_text(run.date)
            if chosen is not None and toml is not None:
                write_file(toml, chosen)  # before it is run, so that it is kept if that fails
            yield result

    run_benchmark(outputs, parts)
    if chosen is None:
        err().print(f"no cascade keeps {share:.0%} of the full model's quality; try more lengths, or --stages 3")
        raise typer.Exit(FAILURE)
    if toml is None:
        out().print("\n" + chosen)
