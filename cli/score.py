"""`crossrank score`: the scores of all pairs in files, written to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Display

from crossrank.bulk.checking import OnError
from crossrank.cli.common import INTERRUPTED, err, status
from crossrank.cli.options import (
    ActivationOption,
    MaxLengthOption,
    ModelOption,
    PrecisionOption,
    ProviderOption,
    ThreadsOption,
    TrustRemoteCodeOption,
)

if TYPE_CHECKING:
    from rich.progress import TaskID

    from crossrank.bulk.progress import Progress, Summary


def score_command(
    *,
    pairs: Annotated[
        list[str],
        typer.Option(
            metavar="FILE|GLOB",
            help="Parquet, .jsonl, .csv or .tsv, also with .gz, .bz2, .zst or .lz4; a pattern in quotes; may be given "
            "again.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where rows and scores go; the format as for --pairs.")],
    query_column: Annotated[str, typer.Option(help="Column of the queries.")] = "query",
    document_column: Annotated[str, typer.Option(help="Column of the documents.")] = "document",
    score_column: Annotated[str, typer.Option(help="Column of the scores in the output.")] = "score",
    keep: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="Columns to carry along, comma-separated; default: all.")
    ] = None,
    header: Annotated[
        str | None,
        typer.Option(metavar="COLUMNS", help="Columns of CSV and TSV files without a header line, comma-separated."),
    ] = None,
    quotes: Annotated[
        bool, typer.Option("--quotes/--no-quotes", help="Whether quotes enclose values in CSV and TSV files.")
    ] = True,
    on_error: Annotated[
        OnError, typer.Option(help="What to do with rows that have no score: refuse, or leave it empty.")
    ] = "fail",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another output of this name.")] = False,
    other_machine: Annotated[
        bool, typer.Option("--other-machine", help="Go on with scores of another processor or other versions.")
    ] = False,
    model: ModelOption = "default",
    provider: ProviderOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    max_length: MaxLengthOption = None,
    activation: ActivationOption = None,
    trust_remote_code: TrustRemoteCodeOption = False,
) -> None:
    """Score all pairs of files. The same command again goes on where an earlier one ended."""
    from crossrank.bulk import Layout, score_files
    from crossrank.bulk.dependencies import require_pyarrow
    from crossrank.reranker import Reranker

    require_pyarrow()
    layout = Layout(
        query=query_column,
        document=document_column,
        score=score_column,
        keep=_names(keep),
        header=_names(header),
        quotes=quotes,
    )
    with status(f"loading {model}"):
        reranker = Reranker(
            model,
            provider=provider,
            precision=precision,
            threads=threads,
            max_length=max_length,
            activation=activation,
            trust_remote_code=trust_remote_code,
        )
    with reranker, _RowsDisplay() as display:
        try:
            summary = score_files(
                reranker,
                pairs,
                out,
                layout=layout,
                on_error=on_error,
                overwrite=overwrite,
                other_machine=other_machine,
                progress=display.show,
            )
        except KeyboardInterrupt:
            display.stop()
            err().print(f"crossrank: interrupted{display.reached()}; the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
    info = reranker.info()
    err().print("; ".join(_told(summary, f"{info.model} {info.precision} on {info.provider}")))


class _RowsDisplay:
    """The step and its rows on standard error, only on a terminal."""

    def __init__(self) -> None:
        console = err()
        self._display = Display(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}", justify="right"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._last: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def show(self, progress: Progress) -> None:
        """Take in how far it has come."""
        if self._last is None:
            self._display.start()
        if self._task is None or self._last is None or self._last.step != progress.step:
            if self._task is not None:
                self._display.remove_task(self._task)
            # Rows of earlier processes say nothing of this one's speed, so they are set and not advanced.
            self._task = self._display.add_task(progress.step, total=progress.total, completed=progress.done, speed="")
        self._last = progress
        rate = self._display.tasks[-1].speed
        self._display.update(
            self._task, completed=progress.done, total=progress.total, speed=f"{rate:.0f} rows/s" if rate else ""
        )

    def stop(self) -> None:
        """Leave the terminal to others."""
        self._display.stop()

    def reached(self) -> str:
        """How far it came, in words."""
        if self._last is None or self._last.total is None:
            return " before anything was scored"
        return f" while {self._last.step}, at row {self._last.done} of {self._last.total}"


def _names(columns: str | None) -> tuple[str, ...] | None:
    return None if columns is None else tuple(name.strip() for name in columns.split(",") if name.strip())


def _told(summary: Summary, model: str) -> list[str]:
    """The summary in words."""
    unscored = [f"{_count(summary.unscored, 'row')} without a score"] if summary.unscored else []
    if summary.finished_before:
        return [f"{summary.out} is finished already: {_count(summary.rows, 'row')} of this very job", *unscored]
    scored = summary.rows - summary.resumed
    parts = [f"{_count(summary.rows, 'row')} in {summary.out}"]
    if summary.resumed:
        parts.append(f"{summary.resumed} of them scored earlier")
    if scored:
        parts.append(f"{scored} scored in {summary.seconds:.1f} s, {scored / summary.seconds:.0f} pairs/s by {model}")
    parts.append(f"{_count(summary.tokens, 'token')}")
    if summary.truncated:
        parts.append(f"{_count(summary.truncated, 'document')} cut to the model's length")
    return parts + unscored


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
