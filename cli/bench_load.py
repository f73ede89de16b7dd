"""`crossrank bench-load`: latency against offered load with many callers at once, on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossrank.cli.bench_output import (
    check_files,
    check_folder,
    embedded_checkpoint,
    names,
    print_tables,
    with_progress,
    write_file,
)
from crossrank.cli.common import reports_errors
from crossrank.cli.options import DocumentLengthOption, MeasuredPrecisionOption, MeasuredProviderOption
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crossrank.evaluation.report_table import ReportTable

_PRECISIONS = {
    MeasuredProviderOption.cpu: MeasuredPrecisionOption.int8,
    MeasuredProviderOption.cuda: MeasuredPrecisionOption.fp16,
}


@reports_errors
def bench_load_command(  # noqa: PLR0913  one parameter an option
    context: typer.Context,  # noqa: ARG001
    *,
    model: Annotated[str, typer.Option("--model", "-m", help="As for 'crossrank rerank'.")] = "default",
    provider: Annotated[
        MeasuredProviderOption, typer.Option(help="What crossrank and the peers run on.")
    ] = MeasuredProviderOption.cpu,
    precision: Annotated[
        MeasuredPrecisionOption | None,
        typer.Option(help="Precision of crossrank's graph; default: int8 on the CPU, fp16 on CUDA."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The model's checkpoint, which the peers load. Default for the default model in a source checkout: "
            "the one it was made from.",
        ),
    ] = None,
    documents: Annotated[DocumentLengthOption, typer.Option(help="Their length.")] = DocumentLengthOption.middle,
    text: Annotated[
        Path | None,
        typer.Option(metavar="BEIR_FOLDER", help="Take the documents from here; default: Python's own documentation."),
    ] = None,
    loads: Annotated[
        str, typer.Option(help="Offered loads as shares of a contender's saturated throughput, comma-separated.")
    ] = "0.3,0.5,0.7,0.9,1,1.5,2",
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds for which each load is offered.")] = 30.0,
    drain: Annotated[float, typer.Option(min=0, help="Seconds given to finish after the last request.")] = 10.0,
    overload: Annotated[
        float, typer.Option(min=0, help="Seconds of twice the saturating load, offered in addition; 0 leaves it out.")
    ] = 0.0,
    after: Annotated[float, typer.Option(min=0.1, help="Seconds to measure before and after the overload.")] = 30.0,
    peers_folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the peers' environments are; without it crossrank runs alone."),
    ] = None,
    peers: Annotated[str | None, typer.Option(help="Which peers, comma-separated; default: all.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures.")] = None,
    plots: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write a plot as PNG.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables as markdown.")] = None,
) -> None:
    """Let requests of 10 to 100 candidates arrive at random, and measure latency, throughput and refusals."""
    from crossrank.benchmarks.harness.report import conditions_table
    from crossrank.benchmarks.load.load_benchmark import run_load_benchmark
    from crossrank.benchmarks.load.load_report import load_tables
    from crossrank.benchmarks.load.measure import LoadPlan
    from crossrank.evaluation.dependencies import require_matplotlib

    if peers is not None and peers_folder is None:
        raise InvalidInputError("--peers goes with --peers-folder")
    check_files({"--json": json_file, "--markdown": markdown})
    if plots is not None:
        check_folder("--plots", plots)
        require_matplotlib()
    plan = LoadPlan(loads=_shares(loads), seconds=seconds, drain=drain, overload_seconds=overload, after_seconds=after)
    result = with_progress(
        lambda progress: run_load_benchmark(
            plan,
            model=model,
            precision=precision.value if precision else _PRECISIONS[provider].value,
            provider=provider.value,
            checkpoint=checkpoint or embedded_checkpoint(model),
            peers_folder=peers_folder,
            peers=None if peers is None else names(peers),
            documents=documents.value,
            text=text,
            progress=progress,
        )
    )
    tables = [conditions_table(result), *load_tables(result["load"])]
    try:
        print_tables(tables)  # first, so that no figures are lost if a file cannot be written
    finally:
        _write(result, tables, json_file, plots, markdown)


def _write(
    result: Mapping[str, Any],
    tables: Sequence[ReportTable],
    json_file: Path | None,
    plots: Path | None,
    markdown: Path | None,
) -> None:
    if json_file is not None:
        write_file(json_file, json.dumps(result, indent=2) + "\n")
    images = []
    if plots is not None:
        from crossrank.benchmarks.load.load_report import write_load_plot

        images = [write_load_plot(result["load"], plots)]
    if markdown is not None:
        from crossrank.evaluation.report_table import tables_to_markdown

        links = [Path(os.path.relpath(image, markdown.parent)).as_posix() for image in images]
        write_file(markdown, tables_to_markdown(tables, plots=links))


def _shares(text: str) -> Sequence[float]:
    try:
        shares = [float(share) for share in text.split(",") if share.strip()]
    except ValueError as error:
        raise InvalidInputError(f"--loads {text!r}: numbers separated by commas expected") from error
    if not all(0 < share < float("inf") for share in shares):
        raise InvalidInputError(f"--loads {text!r}: shares above 0 expected")
    return shares
