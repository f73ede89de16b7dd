"""`crossrank bench`: latency, the comparison with other rerankers, roofline and ranking quality on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from crossrank.benchmarks.harness.engine_options import DEFAULT_PRECISIONS
from crossrank.benchmarks.harness.workloads import DOCUMENT_TOKENS, TOP_KS
from crossrank.cli.bench_output import (
    check_files,
    check_folder,
    embedded_checkpoint,
    names,
    numbers_of,
    print_tables,
    with_progress,
    write_file,
)
from crossrank.cli.common import FAILURE, err, reports_errors
from crossrank.cli.options import DocumentLengthOption, MeasuredProviderOption
from crossrank.errors import InvalidInputError
from crossrank.models.manifest import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crossrank.benchmarks.harness.workloads import DocumentLength

_CURVE_TOP_KS = "10,20,50,100"
_LIMITS = "50,100,200,500,1000,2000,5000"
_PLOTS = "crossrank-plots"


@reports_errors
def bench_command(  # noqa: PLR0913  one parameter an option
    context: typer.Context,  # noqa: ARG001
    *,
    model: Annotated[str, typer.Option("--model", "-m", help="As for 'crossrank rerank'.")] = "default",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The model's checkpoint: peers load it, and precisions the model lacks are exported from it. "
            "Default for the default model in a source checkout: the one it was made from.",
        ),
    ] = None,
    provider: Annotated[
        MeasuredProviderOption, typer.Option(help="What everything runs on, the peers included.")
    ] = MeasuredProviderOption.cpu,
    precision: Annotated[
        str | None,
        typer.Option(help="Precisions, comma-separated; default: fp32,int8 on the CPU, fp16,fp32 on CUDA."),
    ] = None,
    documents: Annotated[
        str, typer.Option(help=f"Lengths, comma-separated: {', '.join(DocumentLengthOption)}.")
    ] = ",".join(DOCUMENT_TOKENS),
    top_k: Annotated[str, typer.Option("--top-k", "-k", help="Numbers of documents, comma-separated.")] = "10,100",
    full: Annotated[bool, typer.Option("--full", help=f"All top-ks: {', '.join(map(str, TOP_KS))}.")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="Time for the calls of one cell of the grid.")] = 5.0,
    no_latency: Annotated[bool, typer.Option("--no-latency", help="Leave the latency grid out.")] = False,
    text: Annotated[
        Path | None,
        typer.Option(metavar="BEIR_FOLDER", help="Take the documents from here; default: Python's own documentation."),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Compare with peers on the same weights; takes about an hour. Environments that are missing are made "
            "first, from PyPI (gigabytes).",
        ),
    ] = False,
    peers_folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the peers' environments are.")] = Path(
        ".peers"
    ),
    peers: Annotated[str | None, typer.Option(help="Which peers, comma-separated; default: all.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of comparison and roofline.")] = 5,
    curve: Annotated[
        str, typer.Option(help="Top-ks of the comparison's curve, comma-separated; '' leaves it out.")
    ] = _CURVE_TOP_KS,
    no_scenarios: Annotated[bool, typer.Option("--no-scenarios", help="Compare on the curve only.")] = False,
    install_peers: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Make the peers' environments for the provider there (gigabytes), and do nothing else.",
        ),
    ] = None,
    roofline: Annotated[
        bool, typer.Option("--roofline", help="Measure the share of this machine's matrix-product ceiling.")
    ] = False,
    long: Annotated[
        list[Path] | None,
        typer.Option(metavar="BEIR_FOLDER", help="Judge windows on documents joined by fours; may be given again."),
    ] = None,
    deadlines: Annotated[
        list[Path] | None,
        typer.Option(metavar="BEIR_FOLDER", help="Judge rankings under time limits; may be given several times."),
    ] = None,
    limits: Annotated[str, typer.Option(help="The time limits in milliseconds, comma-separated.")] = _LIMITS,
    candidates: Annotated[int, typer.Option(min=11, help="Documents of a query under time limits.")] = 1000,
    quality_queries: Annotated[int | None, typer.Option(min=1, help="First queries only; default: all.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures.")] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help=f"Write plots as PNG; with --compare or --roofline that is done anyway, to {_PLOTS}.",
        ),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables as markdown.")] = None,
) -> None:
    """Measure on this machine, everything in one run, so that the figures are comparable."""
    if install_peers is not None:
        if not _install(install_peers, provider):
            raise typer.Exit(FAILURE)
        return
    from crossrank.benchmarks.harness.report import report_tables
    from crossrank.benchmarks.harness.sampling import Effort
    from crossrank.benchmarks.run import BenchmarkPlan, check_plan, missing_environments, run_benchmark
    from crossrank.evaluation.dependencies import require_matplotlib

    if peers is not None and not compare:
        raise InvalidInputError("--peers goes with --compare")
    plan = BenchmarkPlan(
        model=model,
        provider=provider.value,
        precisions=_precisions(precision, provider),
        checkpoint=checkpoint or embedded_checkpoint(model),
        texts=text,
        lengths=_lengths(documents)[: 0 if no_latency else None],
        top_ks=TOP_KS if full else numbers_of("top-k", top_k),
        effort=Effort(seconds=seconds),
        peers_folder=peers_folder if compare else None,
        peers=None if peers is None else names(peers),
        rounds=rounds,
        curve_top_ks=numbers_of("curve", curve),
        scenarios=not no_scenarios,
        roofline_rounds=rounds if roofline else 0,
        long_documents=long or [],
        quality_queries=quality_queries,
        deadlines=deadlines or [],
        limits_ms=numbers_of("limits", limits),
        candidates=candidates,
    )
    check_files({"--json": json_file, "--markdown": markdown})
    if plots is None and (compare or roofline):
        plots = Path(_PLOTS)
        err().print(f"plots go to {plots}", markup=False)
    if plots is not None:
        check_folder("--plots", plots)
        require_matplotlib()
    if plan.peers_folder is not None:
        check_plan(plan)  # before gigabytes are downloaded
        _install(plan.peers_folder, provider, missing_environments(plan))
    result = with_progress(lambda progress: run_benchmark(plan, progress=progress))
    try:
        print_tables(report_tables(result))  # first, so that no figures are lost if a file cannot be written
    finally:
        _write(result, json_file, plots, markdown)


def _precisions(text: str | None, provider: MeasuredProviderOption) -> Sequence[Precision]:
    if text is None:
        return DEFAULT_PRECISIONS[provider.value]
    if not names(text):
        raise InvalidInputError(f"--precision {text!r}: one or more of {', '.join(get_args(Precision))} expected")
    return [_one_of("precision", name, get_args(Precision)) for name in names(text)]


def _install(folder: Path, provider: MeasuredProviderOption, names: Sequence[str] | None = None) -> bool:
    """Make the environments of the peers named, or of all; returns whether at least one is usable."""
    from crossrank.benchmarks.peers.environments import install

    console = err()
    results = install(
        folder,
        names,
        provider=provider.value,
        progress=lambda name: console.print(f"installing {name} ...", markup=False),
    )
    for result in results:
        console.print(f"{result.environment}: {result.reason or 'installed'}", markup=False)
    return not all(result.reason for result in results)


def _write(result: Mapping[str, Any], json_file: Path | None, plots: Path | None, markdown: Path | None) -> None:
    if json_file is not None:
        write_file(json_file, json.dumps(result, indent=2) + "\n")
    images: list[Path] = []
    if plots is not None:
        from crossrank.benchmarks.harness.plots import write_plots

        images = write_plots(result, plots)
    if markdown is not None:
        from crossrank.benchmarks.harness.report import report_tables
        from crossrank.evaluation.report_table import tables_to_markdown

        links = [Path(os.path.relpath(image, markdown.parent)).as_posix() for image in images]
        write_file(markdown, tables_to_markdown(report_tables(result), plots=links))


def _lengths(text: str) -> list[DocumentLength]:
    return [_one_of("documents", name, tuple(DocumentLengthOption)) for name in names(text)]


def _one_of(option: str, name: str, allowed: tuple[str, ...]) -> Any:
    if name not in allowed:
        raise InvalidInputError(f"--{option} {name!r}: {', '.join(allowed)} expected")
    return name
