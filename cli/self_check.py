"""`crossrank self-check`: checks whether the engine scores correctly on this machine, and writes a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from crossrank.cli.bench_output import check_files, with_progress
from crossrank.cli.common import FAILURE, out, plain_table
from crossrank.cli.options import ModelOption
from crossrank.evaluation.output_file import write_file
from crossrank.models.manifest import ProviderChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossrank.self_check.result import CheckResult

_STYLES = {"PASS": "green", "FAIL": "bold red", "n.a.": "dim"}


def self_check_command(
    *,
    provider: Annotated[ProviderChoice, typer.Option(help="What to check; auto takes CUDA where it works.")] = "auto",
    model: ModelOption = "default",
    device: Annotated[int, typer.Option(min=0, help="CUDA device id.")] = 0,
    calls: Annotated[
        int | None, typer.Option(min=1, help="Calls of the memory check; default: 10000 on CUDA, 500 on the CPU.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all results, to attach to a bug report.")
    ] = None,
) -> None:
    """Compare the engine's scores here with the plain graph on the CPU, and alone, in batches and in repeated calls."""
    from crossrank.self_check.run import run_self_check

    check_files({"--json": json_file})
    report = with_progress(
        lambda progress: run_self_check(model, provider=provider, device=device, calls=calls, progress=progress)
    )
    console = out()
    try:
        console.print(_table(report.results))
        console.print(f"{report.failed} checks failed" if report.failed else "no check failed")
    finally:
        if json_file is not None:
            write_file(json_file, report.to_json() + "\n")
    if report.failed:
        raise typer.Exit(FAILURE)


def _table(results: Sequence[CheckResult]) -> Table:
    table = plain_table(("check", "precision", "", "s", "found"), right={"s"}, no_wrap={"check", ""})
    for result in results:
        verdict = Text(result.verdict, style=_STYLES[result.verdict])
        table.add_row(result.name, result.precision or "", verdict, f"{result.seconds:.1f}", result.detail)
    return table
