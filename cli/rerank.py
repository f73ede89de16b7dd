"""`crossrank rerank`: order the documents of a file for a query."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast

import typer
from rich.text import Text

from crossrank.cli.common import err, json_text, out, printable, status
from crossrank.cli.options import (
    ActivationOption,
    MaxLengthOption,
    PrecisionOption,
    ProviderOption,
    ThreadsOption,
    TrustRemoteCodeOption,
    model_names,
)
from crossrank.cli.reading import InputFormat, read_documents
from crossrank.engine.call.ranking_views import shown_score, shown_text
from crossrank.engine.text.windows import Aggregation, LongDocumentsChoice, Windows
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from crossrank.engine.call.results import RankedDocument, RankResult, RerankerInfo
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.windows import LongDocuments


_MOST_WINDOWS = 128
_GAP = "  "
"""Between columns."""


OutputFormat: TypeAlias = Literal["table", "jsonl"]


def rerank_command(
    file: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="Documents: one per line, or JSONL with a text field.")
    ] = "-",
    *,
    query: Annotated[str, typer.Option("--query", "-q", help="The query.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=0, help="How many documents to print.")] = 10,
    output_format: Annotated[
        OutputFormat, typer.Option("--format", help="A table (tab-separated where it is no terminal), or JSON lines.")
    ] = "table",
    input_format: Annotated[InputFormat, typer.Option(help="Format of the file.")] = "auto",
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A folder, a name of 'crossrank models', or a hub id.",
            autocompletion=model_names,
        ),
    ] = "default",
    provider: ProviderOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    max_length: MaxLengthOption = None,
    activation: ActivationOption = None,
    long_documents: Annotated[
        LongDocumentsChoice, typer.Option(help="Read their beginning, or all of them window by window.")
    ] = "truncate",
    window_tokens: Annotated[
        int | None, typer.Option(min=1, help="Document tokens of a window; default: 192 where a document does not fit.")
    ] = None,
    window_stride: Annotated[
        int | None, typer.Option(min=1, help="Tokens from window to window; default: three quarters of one.")
    ] = None,
    max_windows: Annotated[
        int | None, typer.Option(min=1, help=f"Windows read of a document at most; default: {_MOST_WINDOWS}.")
    ] = None,
    aggregation: Annotated[
        Aggregation | None,
        typer.Option(help="How to get a document's score from its windows'; default: max."),
    ] = None,
    instruction: Annotated[
        str | None, typer.Option(help="What to judge by, for models that take one; default: the model's own.")
    ] = None,
    cascade: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Rank in the stages of a TOML file; 'default' has the embedded models'."),
    ] = None,
    trust_remote_code: TrustRemoteCodeOption = False,
) -> None:
    """Order documents by their relevance to a query, best first."""
    from crossrank.cascade import Cascade
    from crossrank.cascade_file import default_cascade_file
    from crossrank.reranker import Reranker

    documents = read_documents(file, input_format)
    windows = _windows(long_documents, window_tokens, window_stride, max_windows, aggregation)
    ranker: Reranker | Cascade
    with status(f"loading {cascade or model}"):
        if cascade is not None:
            if (
                model != "default"
                or max_length is not None
                or activation is not None
                or instruction is not None
                or trust_remote_code
            ):
                raise InvalidInputError(
                    "--cascade names the models and their lengths: --model, --max-length, --activation, --instruction "
                    "and --trust-remote-code do not go with it"
                )
            is_default = cascade == "default"
            ranker = Cascade.from_toml(
                default_cascade_file(provider, precision) if is_default else cascade,
                provider=provider,
                precision=precision,
                threads=threads,
                long_documents=windows,
            )
        else:
            ranker = Reranker(
                model,
                provider=provider,
                precision=precision,
                threads=threads,
                max_length=max_length,
                activation=activation,
                long_documents=windows,
                instruction=instruction,
                trust_remote_code=trust_remote_code,
            )
    with ranker:
        with status(f"scoring {len(documents)} documents"):
            started = time.perf_counter()
            ranking = ranker.rank(query, documents, top_k=top_k)
            seconds = time.perf_counter() - started
        notes = _notes(ranking)
        if output_format == "jsonl":
            _print_jsonl(ranking)
        else:
            _print_table(ranking)
            run = _model(ranker.info()) if isinstance(ranker, Reranker) else _stages(ranking)
            notes.insert(0, f"{len(ranking)} of {ranking.scored} documents, {seconds * 1000:.0f} ms, {run}")
        if notes:
            err().print("; ".join(notes))


def _windows(
    choice: LongDocumentsChoice,
    tokens: int | None,
    stride: int | None,
    most: int | None,
    aggregation: Aggregation | None,
) -> LongDocuments:
    if choice == "truncate":
        if any(option is not None for option in (tokens, stride, most, aggregation)):
            raise InvalidInputError(
                "--window-tokens, --window-stride, --max-windows and --aggregation go with --long-documents windows"
            )
        return "truncate"
    return Windows(
        tokens=tokens,
        stride=stride,
        max_windows_per_document=_MOST_WINDOWS if most is None else most,
        aggregation="max" if aggregation is None else aggregation,
    )


def _model(info: RerankerInfo) -> str:
    return f"{info.model} {info.precision} on {info.provider}"


def _stages(ranking: RankResult) -> str:
    """One phrase for each stage of a cascade that scored documents."""
    from crossrank.stages import CascadeResult

    runs = ranking.stages if isinstance(ranking, CascadeResult) else ()
    return ", then ".join(
        f"{run.model} on {run.max_length} tokens for {run.scored} documents ({run.seconds * 1000:.0f} ms)"
        for run in runs
        if run.scored
    )


def _print_jsonl(ranking: RankResult) -> None:
    for rank, item in enumerate(ranking, start=1):
        line = {
            "rank": rank,
            "index": item.index,
            "score": item.score,
            "truncated": item.truncated,
            "document": item.document,
        }
        if item.window is not None:
            line["window"] = dataclasses.asdict(item.window)
        if item.stage is not None:
            line["stage"] = item.stage + 1
        typer.echo(json_text(line))


def _print_table(ranking: RankResult) -> None:
    """On a terminal each document on one line of its width; elsewhere columns separated by tabs, with whole texts."""
    staged = any(item.stage is not None for item in ranking)
    rows = [["rank", *(["stage"] if staged else []), "score", "document"]]
    for rank, item in enumerate(ranking, start=1):
        stage = [str((item.stage or 0) + 1)] if staged else []
        rows.append([str(rank), *stage, shown_score(item.score), _one_line(item)])
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(row))
        return
    console = out()
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    room = max(console.width - sum(width + len(_GAP) for width in widths), len(rows[0][-1]))
    for number, row in enumerate(rows):
        text = Text(row[-1])
        text.truncate(room, overflow="ellipsis")
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=False)]
        console.print(_GAP.join([*cells, text.plain]), style="bold" if number == 0 else None, soft_wrap=True)


def _one_line(item: RankedDocument) -> str:
    part = None if item.window is None else (item.window.start, item.window.end)
    return printable(shown_text(cast("Document", item.document), part))


def _notes(ranking: RankResult) -> list[str]:
    """Notes on documents that could not be scored, and on what was cut to the model's length."""
    notes = [f"documents[{index}] has no score: {reason}" for index, reason in ranking.failures.items()]
    if ranking.truncated_documents:
        documents = (
            "1 document was" if ranking.truncated_documents == 1 else f"{ranking.truncated_documents} documents were"
        )
        notes.append(f"{documents} cut to the model's length")
    if ranking.query_truncated:
        notes.append("the query was cut")
    return notes
