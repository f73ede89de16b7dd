"""`crossrank rerank`: order the documents of a file for a query."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich.table import Table
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
from crossrank.engine.text.documents import TEXT_FIELD
from crossrank.engine.text.windows import Aggregation, LongDocumentsChoice, Windows
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from crossrank.engine.call.results import RankedDocument, RankResult, RerankerInfo
    from crossrank.engine.text.windows import LongDocuments


_MOST_WINDOWS = 128


OutputFormat: TypeAlias = Literal["table", "jsonl"]


def rerank_command(
    file: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="Documents: one per line, or JSONL with a text field.")
    ] = "-",
    *,
    query: Annotated[str, typer.Option("--query", "-q", help="The query.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=0, help="How many documents to print.")] = 10,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = "table",
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
            if model != "default" or max_length is not None or activation is not None or trust_remote_code:
                raise InvalidInputError(
                    "--cascade names the models and their lengths: --model, --max-length, --activation and "
                    "--trust-remote-code do not go with it"
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
                trust_remote_code=trust_remote_code,
            )
    with ranker:
        with status(f"scoring {len(documents)} documents"):
            started = time.perf_counter()
            ranking = ranker.rank(query, documents, top_k=top_k)
            seconds = time.perf_counter() - started
        notes = _truncation_notes(ranking)
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
    console = out()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rank", justify="right")
    staged = any(item.stage is not None for item in ranking)
    if staged:
        table.add_column("stage", justify="right")
    table.add_column("score", justify="right")
    table.add_column("document", overflow="ellipsis", no_wrap=console.is_terminal, ratio=1)
    for rank, item in enumerate(ranking, start=1):
        stage = [str((item.stage or 0) + 1)] if staged else []
        table.add_row(str(rank), *stage, f"{item.score:.4f}", Text(_one_line(item)))
    console.print(table)


def _one_line(item: RankedDocument) -> str:
    document: Any = item.document
    text = document if isinstance(document, str) else document[TEXT_FIELD]
    if item.window is not None:
        text = text[item.window.start : item.window.end]
    label = None if isinstance(document, str) else document.get("title") or document.get("id") or document.get("_id")
    return printable(f"{label}: {text}" if label else text)


def _truncation_notes(ranking: RankResult) -> list[str]:
    """Notes on documents and queries that were cut to the model's length."""
    notes = []
    if ranking.truncated_documents:
        documents = (
            "1 document was" if ranking.truncated_documents == 1 else f"{ranking.truncated_documents} documents were"
        )
        notes.append(f"{documents} cut to the model's length")
    if ranking.query_truncated:
        notes.append("the query was cut")
    return notes
