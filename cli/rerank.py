"""`crossrank rerank`: order the documents of a file for a query."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from crossrank.cli.options import ActivationOption, PrecisionOption, ProviderOption
from crossrank.cli.reading import InputFormat, read_documents
from crossrank.cli.run import err, json_text, out, printable, reports_errors, status
from crossrank.engine.documents import TEXT_FIELD

if TYPE_CHECKING:
    from crossrank.engine.results import RankedDocument, RankResult


class OutputFormat(StrEnum):
    """How to print the ranking."""

    table = "table"
    jsonl = "jsonl"


@reports_errors
def rerank_command(  # noqa: PLR0913  one parameter an option
    context: typer.Context,  # noqa: ARG001
    file: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="Documents: one a line, or JSONL with a text field.")
    ] = "-",
    *,
    query: Annotated[str, typer.Option("--query", "-q", help="What to look for.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=0, help="How many documents to print.")] = 10,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.table,
    input_format: Annotated[InputFormat, typer.Option(help="How the file holds documents.")] = InputFormat.auto,
    model: Annotated[
        str, typer.Option("--model", "-m", help="default, a folder, a name of 'crossrank models', or a hub id.")
    ] = "default",
    provider: Annotated[ProviderOption, typer.Option(help="Where to run.")] = ProviderOption.auto,
    precision: Annotated[PrecisionOption, typer.Option(help="Graph to run.")] = PrecisionOption.auto,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; default: the cores there are.")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of a pair; default: the model's.")] = None,
    activation: Annotated[ActivationOption | None, typer.Option(help="Default: the model's.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let code that comes with a checkpoint run.")
    ] = False,
) -> None:
    """Order documents by their relevance to a query, best first."""
    from crossrank.reranker import Reranker

    documents = read_documents(file, input_format)
    with status(f"loading {model}"):
        reranker = Reranker(
            model,
            provider=provider.value,
            precision=precision.value,
            threads=threads,
            max_length=max_length,
            activation=activation.value if activation else None,
            trust_remote_code=trust_remote_code,
        )
    with reranker:
        with status(f"scoring {len(documents)} documents"):
            started = time.perf_counter()
            ranking = reranker.rank(query, documents, top_k=top_k)
            seconds = time.perf_counter() - started
        cuts = _cuts(ranking)
        if output_format is OutputFormat.jsonl:
            _print_jsonl(ranking)
        else:
            _print_table(ranking)
            info = reranker.info()
            run = f"{info.model} {info.precision} on {info.provider}"
            cuts.insert(0, f"{len(ranking)} of {ranking.scored} documents, {seconds * 1000:.0f} ms, {run}")
        if cuts:
            err().print("; ".join(cuts))


def _print_jsonl(ranking: RankResult) -> None:
    for rank, item in enumerate(ranking, start=1):
        line = {
            "rank": rank,
            "index": item.index,
            "score": item.score,
            "truncated": item.truncated,
            "document": item.document,
        }
        typer.echo(json_text(line))


def _print_table(ranking: RankResult) -> None:
    console = out()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("document", overflow="ellipsis", no_wrap=console.is_terminal, ratio=1)
    for rank, item in enumerate(ranking, start=1):
        table.add_row(str(rank), f"{item.score:.4f}", Text(_one_line(item)))
    console.print(table)


def _one_line(item: RankedDocument) -> str:
    document: Any = item.document
    if isinstance(document, str):
        return printable(document)
    label = document.get("title") or document.get("id") or document.get("_id")
    return printable(f"{label}: {document[TEXT_FIELD]}" if label else document[TEXT_FIELD])


def _cuts(ranking: RankResult) -> list[str]:
    """What was cut to the model's length, in words."""
    cuts = []
    if ranking.truncated_documents:
        documents = (
            "1 document was" if ranking.truncated_documents == 1 else f"{ranking.truncated_documents} documents were"
        )
        cuts.append(f"{documents} cut to the model's length")
    if ranking.query_truncated:
        cuts.append("the query was cut")
    return cuts
