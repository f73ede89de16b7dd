"""`crossrank report`: one HTML page about a model on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from crossrank.cli.bench_output import check_files, with_progress, write_file
from crossrank.cli.common import FAILURE, err
from crossrank.cli.options import MeasuredProviderOption, embedded_names
from crossrank.models.embedded import EMBEDDED_MODELS, embedded_artifact


def report_command(
    artifact: Annotated[
        str,
        typer.Argument(
            metavar="ARTIFACT", help="A folder, 'default' or 'default-small'.", autocompletion=embedded_names
        ),
    ],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The page; default: ARTIFACT's name.html.")
    ] = None,
    provider: MeasuredProviderOption = "cpu",
    latency: Annotated[bool, typer.Option(help="Time calls on this machine.")] = True,
    seconds: Annotated[float, typer.Option(min=0, help="Time for the calls of one cell of the grid.")] = 2.0,
) -> None:
    """Write a page about an artifact: what it is, what was verified with what, and how long calls take here."""
    from crossrank.benchmarks.report.content import make_report
    from crossrank.benchmarks.report.page import html_page
    from crossrank.evaluation.dependencies import require_matplotlib

    folder = embedded_artifact(artifact) if artifact in EMBEDDED_MODELS else Path(artifact)
    page = output or Path(f"{Path(artifact).name}.html")
    check_files({"--output": page})
    require_matplotlib()
    command = ["crossrank", "report", artifact, "--provider", provider]
    command += ["--seconds", f"{seconds:g}"] if latency else ["--no-latency"]
    report = with_progress(
        lambda progress: make_report(
            folder,
            command=shlex.join(command),
            provider=provider,
            seconds=seconds if latency else None,
            progress=progress,
        )
    )
    write_file(page, html_page(report))
    err().print(f"report: {page}")
    if not report.passed:
        raise typer.Exit(FAILURE)
