"""The `crossrank` program: its commands and its own options."""

from __future__ import annotations

import io
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
from crossrank.cli.rerank import rerank_command
from crossrank.cli.score import score_command
from crossrank.cli.self_check import self_check_command
from crossrank.cli.serve import serve_command

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
app.command("models")(models_command)
app.command("self-check")(self_check_command)
app.command("evaluate")(evaluate_command)
app.add_typer(bench_app, name="bench")


def _print_version(given: bool) -> None:
    if given:
        typer.echo(f"crossrank {__version__}")
        raise typer.Exit


@app.callback()
def settings(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Rerank documents with cross-encoders on ONNX Runtime, and export checkpoints for it."""


def main() -> None:
    """Entry point of the `crossrank` command."""
    open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 shows '?' for what it cannot
    app()
