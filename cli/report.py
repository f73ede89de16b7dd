"""`crossrank report`: one HTML page about a model on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from crossrank.cli.bench_output import check_files, with_progress
from crossrank.cli.common import FAILURE, err
from crossrank.cli.options import embedded_names
from crossrank.errors import InvalidInputError
from crossrank.evaluation.output_file import write_file
from crossrank.models.embedded import EMBEDDED_MODELS, embedded_artifact
from crossrank.models.manifest import Provider

_SECONDS = 2.0


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
    provider: Annotated[Provider, typer.Option(help="What scores the reference pairs and the timed calls.")] = "cpu",
    latency: Annotated[bool, typer.Option(help="Time calls on this machine.")] = True,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help=f"Time for each combination of precision, length and number of documents; default: {_SECONDS:g}.",
        ),
    ] = None,
) -> None:
    """Write a page about an artifact: what it is, what was verified with what, and how long calls take here."""
    from crossrank.benchmarks.report.content import make_report
    from crossrank.benchmarks.report.page import html_page
    from crossrank.evaluation.dependencies import require_matplotlib

    if seconds is not None and not latency:
        raise InvalidInputError(f"--seconds {seconds:g} together with --no-latency, which times nothing; give either")
    seconds = _SECONDS if seconds is None else seconds
    folder = embedded_artifact(artifact) if artifact in EMBEDDED_MODELS else Path(artifact)
    page = output or Path(f"{folder.resolve().name if artifact not in EMBEDDED_MODELS else artifact}.html")
    if output is None and Path.cwd() == folder.resolve():
        raise InvalidInputError(f"the page would become part of the artifact {folder.resolve()}; give --output FILE")
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
