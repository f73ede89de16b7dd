"""The `crossrank` program: its commands and its own options."""

from __future__ import annotations

import io
import platform
import sys
from typing import Annotated

import typer

from crossrank import __version__
from crossrank.cli.bench import bench_app
from crossrank.cli.common import ReportingGroup, open_closed_streams
from crossrank.cli.evaluate import evaluate_command
from crossrank.cli.export import export_command
from crossrank.cli.inspect import inspect_command
from crossrank.cli.models import models_command
from crossrank.cli.pull import pull_command
from crossrank.cli.report import report_command
from crossrank.cli.rerank import rerank_command
from crossrank.cli.score import score_command
from crossrank.cli.self_check import self_check_command
from crossrank.cli.serve import serve_command
from crossrank.errors import MissingDependencyError

app = typer.Typer(
    name="crossrank",
    cls=ReportingGroup,
    help="Rerank documents with cross-encoders on ONNX Runtime, and export checkpoints for it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("rerank")(rerank_command)
app.command("score")(score_command)
app.command("export")(export_command)
app.command("pull")(pull_command)
app.command("serve")(serve_command)
app.command("inspect")(inspect_command)
app.command("report")(report_command)
app.command("models")(models_command)
app.command("self-check")(self_check_command)
app.command("evaluate")(evaluate_command)
app.add_typer(bench_app, name="bench")


_EXIT_CODES = (
    "Exit codes: 0 done; 1 failed, the reason is on standard error (also a check that found a fault); 2 wrong usage or "
    "invalid input; 3 'serve' could not load a model; 130 stopped by Ctrl-C."
)


def _print_version(given: bool) -> None:
    if given:
        typer.echo(f"crossrank {__version__}")
        typer.echo(f"python {platform.python_version()}, {platform.system()} {platform.machine()}")
        typer.echo(_runtime())
        raise typer.Exit


def _runtime() -> str:
    """The installed onnxruntime with its providers, or why there is none; asking for a version is no failure."""
    from crossrank.benchmarks.harness.gpu import describe_onnxruntime

    try:
        runtime = describe_onnxruntime()
    except MissingDependencyError as error:
        return f"onnxruntime: {error}"
    return f"{' and '.join(runtime.packages)} {runtime.version}, providers: {', '.join(runtime.providers)}"


@app.callback(epilog=_EXIT_CODES)
def settings(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions of crossrank and of its runtime, and exit.",
        ),
    ] = False,
) -> None:
    """Rerank documents with cross-encoders on ONNX Runtime, and export checkpoints for it."""


def run() -> None:
    """Run the command that the arguments name."""
    open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 shows '?' for what it cannot
    app()
