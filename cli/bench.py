"""`crossrank bench`: what is measured on this machine, one sub-command for each question."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, get_args

import typer

from crossrank.benchmarks.harness.workloads import DOCUMENT_TOKENS, TOP_KS, DocumentLength
from crossrank.cli.bench_cascade import cascade_command
from crossrank.cli.bench_output import Outputs, measure_model, numbers_of, some_of, subject_of
from crossrank.cli.bench_peers import load_command, peers_command
from crossrank.cli.options import (
    CheckpointOption,
    CollectionsOption,
    JsonFileOption,
    MarkdownOption,
    MeasuredPrecisionOption,
    MeasuredPrecisionsOption,
    MeasuredProviderOption,
    ModelOption,
    PlotsOption,
    QueriesOption,
    RoundsOption,
    TextOption,
)

bench_app = typer.Typer(help="Measure on this machine.", no_args_is_help=True, rich_markup_mode=None)


@bench_app.command("latency")
def latency_command(
    *,
    model: ModelOption = "default",
    checkpoint: CheckpointOption = None,
    provider: MeasuredProviderOption = "cpu",
    precision: MeasuredPrecisionsOption = None,
    documents: Annotated[
        str, typer.Option(help=f"Lengths, comma-separated: {', '.join(get_args(DocumentLength))}.")
    ] = ",".join(DOCUMENT_TOKENS),
    top_k: Annotated[str, typer.Option("--top-k", "-k", help="Numbers of documents, comma-separated.")] = "10,100",
    full: Annotated[bool, typer.Option("--full", help=f"All top-ks: {', '.join(map(str, TOP_KS))}.")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="Time for the calls of one cell of the grid.")] = 5.0,
    text: TextOption = None,
    json_file: JsonFileOption = None,
    markdown: MarkdownOption = None,
    plots: PlotsOption = None,
) -> None:
    """Time calls, text to ranking. Every precision, length of documents and top-k is a cell of its own."""
    from crossrank.benchmarks.harness.sampling import Effort
    from crossrank.benchmarks.latency.latency_grid import measure_latency

    lengths: list[DocumentLength] = some_of("documents", documents, get_args(DocumentLength))
    top_ks = TOP_KS if full else numbers_of("top-k", top_k)
    outputs = Outputs(json_file, markdown, plots)
    subject = subject_of(model, provider, precision, checkpoint, text=text, several=True)
    grid = partial(measure_latency, lengths=lengths, top_ks=top_ks, effort=Effort(seconds=seconds))
    measure_model(outputs, subject, grid)


@bench_app.command("ceiling")
def ceiling_command(
    *,
    model: ModelOption = "default",
    checkpoint: CheckpointOption = None,
    provider: MeasuredProviderOption = "cpu",
    precision: MeasuredPrecisionsOption = None,
    rounds: RoundsOption = 5,
    text: TextOption = None,
    json_file: JsonFileOption = None,
    markdown: MarkdownOption = None,
    plots: PlotsOption = Path("crossrank-plots"),
) -> None:
    """Compare scoring with matrix products. The figure is the share of their rate on this machine that it reaches."""
    from crossrank.benchmarks.ceiling.share import measure_ceiling
    from crossrank.evaluation.dependencies import require_onnx

    outputs = Outputs(json_file, markdown, plots)
    subject = subject_of(model, provider, precision, checkpoint, text=text, several=True)
    require_onnx()
    measure_model(outputs, subject, partial(measure_ceiling, rounds=rounds))


@bench_app.command("deadlines")
def deadlines_command(
    *,
    collection: CollectionsOption,
    model: ModelOption = "default",
    checkpoint: CheckpointOption = None,
    provider: MeasuredProviderOption = "cpu",
    precision: MeasuredPrecisionOption = None,
    limits: Annotated[
        str, typer.Option(help="The time limits in milliseconds, comma-separated.")
    ] = "50,100,200,500,1000,2000,5000",
    candidates: Annotated[int, typer.Option(min=11, help="Documents of a query.")] = 1000,
    queries: QueriesOption = None,
    rounds: RoundsOption = 5,
    json_file: JsonFileOption = None,
    markdown: MarkdownOption = None,
    plots: PlotsOption = None,
) -> None:
    """Judge rankings under time limits. The figures also say whether the limits are kept."""
    from crossrank.benchmarks.quality.deadlines import check_folders, measure_deadlines

    limits_ms = numbers_of("limits", limits)
    outputs = Outputs(json_file, markdown, plots)
    subject = subject_of(model, provider, precision, checkpoint)
    check_folders(collection, queries=queries, candidates=candidates)
    chosen = partial(measure_deadlines, folders=collection, queries=queries, candidates=candidates)
    measure_model(outputs, subject, partial(chosen, limits_ms=limits_ms, rounds=rounds))


@bench_app.command("windows")
def windows_command(
    *,
    collection: CollectionsOption,
    model: ModelOption = "default",
    checkpoint: CheckpointOption = None,
    provider: MeasuredProviderOption = "cpu",
    precision: MeasuredPrecisionOption = None,
    queries: QueriesOption = None,
    json_file: JsonFileOption = None,
    markdown: MarkdownOption = None,
) -> None:
    """Judge long documents read in windows. They are documents of a collection joined by fours."""
    from crossrank.benchmarks.quality.long_documents import check_folders, measure_windows

    outputs = Outputs(json_file, markdown, None)
    subject = subject_of(model, provider, precision, checkpoint)
    check_folders(collection)
    measure_model(outputs, subject, partial(measure_windows, folders=collection, queries=queries))


bench_app.command("peers")(peers_command)
bench_app.command("load")(load_command)
bench_app.command("cascade")(cascade_command)
