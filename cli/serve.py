"""`crossrank serve`: an HTTP service for clients of five APIs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from crossrank.cli.options import model_names
from crossrank.engine.text.windows import LongDocumentsChoice
from crossrank.errors import MissingDependencyError
from crossrank.models.manifest import PrecisionChoice, ProviderChoice

LogFormat: TypeAlias = Literal["text", "json"]


def serve_command(
    *,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="[NAME=]SOURCE",
            help="A model and the name that requests use for it; may be given several times. Default: default.",
            autocompletion=model_names,
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings as TOML; flags go before them.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one; default: 8000.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes, each with its copy of the models; default: 1.")
    ] = None,
    keys_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Bearer keys, one a line; default: none is asked for.")
    ] = None,
    provider: Annotated[ProviderChoice | None, typer.Option(help="Where to run.")] = None,
    precision: Annotated[PrecisionChoice | None, typer.Option(help="Graph to run.")] = None,
    threads: Annotated[int | None, typer.Option(help="Processor threads of a worker; default: its share.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of a pair; default: the model's.")] = None,
    max_queue_tokens: Annotated[int | None, typer.Option(help="Tokens that may wait; default: ten million.")] = None,
    long_documents: Annotated[LongDocumentsChoice | None, typer.Option(help="Read their beginning, or all.")] = None,
    score_cache_bytes: Annotated[int | None, typer.Option(help="Keep scores in so many bytes; default: none.")] = None,
    raw_scores: Annotated[
        bool | None, typer.Option("--raw-scores/--no-raw-scores", help="Logits where a request does not say.")
    ] = None,
    trust_remote_code: Annotated[
        bool | None, typer.Option("--trust-remote-code", help="Allow code that comes with a checkpoint to run.")
    ] = None,
    default_deadline_ms: Annotated[float | None, typer.Option(help="Of requests that name none.")] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="Of a request; default: 10 MiB.")] = None,
    max_documents: Annotated[int | None, typer.Option(help="Of a request; default: 10000.")] = None,
    max_characters: Annotated[int | None, typer.Option(help="Of a request; default: ten million.")] = None,
    max_concurrent_bodies: Annotated[int | None, typer.Option(help="Read at once; default: 1024.")] = None,
    max_buffered_bytes: Annotated[int | None, typer.Option(help="Of bodies being read; default: 256 MiB.")] = None,
    max_connections: Annotated[int | None, typer.Option(help="Of each worker; default: 4096.")] = None,
    header_timeout: Annotated[float | None, typer.Option(help="Seconds for a request's head; default: 10.")] = None,
    stall_timeout: Annotated[float | None, typer.Option(help="Seconds between parts of a body; default: 10.")] = None,
    body_timeout: Annotated[float | None, typer.Option(help="Seconds for a body; default: 60.")] = None,
    write_timeout: Annotated[float | None, typer.Option(help="Seconds an answer may lie unread; default: 30.")] = None,
    keep_alive: Annotated[float | None, typer.Option(help="Seconds between requests; default: 75.")] = None,
    drain_timeout: Annotated[float | None, typer.Option(help="Seconds to finish after SIGTERM; default: 30.")] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="Of the access log; default: text.")] = None,
    log_texts: Annotated[
        bool | None, typer.Option("--log-texts", help="Write queries and documents to the access log.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Print the settings and end.")] = False,
) -> None:
    """Serve models over HTTP. Settings come from flags, CROSSRANK_... variables and --config, in this order."""
    from crossrank.server.settings import describe_settings, read_settings

    settings, origins = read_settings(
        {
            "models": model or None,
            "host": host,
            "port": port,
            "workers": workers,
            "keys_file": keys_file,
            "provider": provider,
            "precision": precision,
            "threads": threads,
            "max_length": max_length,
            "max_queue_tokens": max_queue_tokens,
            "long_documents": long_documents,
            "score_cache_bytes": score_cache_bytes,
            "raw_scores": raw_scores,
            "trust_remote_code": trust_remote_code,
            "default_deadline_ms": default_deadline_ms,
            "max_body_bytes": max_body_bytes,
            "max_documents": max_documents,
            "max_characters": max_characters,
            "max_concurrent_bodies": max_concurrent_bodies,
            "max_buffered_bytes": max_buffered_bytes,
            "max_connections": max_connections,
            "header_timeout": header_timeout,
            "stall_timeout": stall_timeout,
            "body_timeout": body_timeout,
            "write_timeout": write_timeout,
            "keep_alive": keep_alive,
            "drain_timeout": drain_timeout,
            "log_format": log_format,
            "log_texts": log_texts,
        },
        config_file=config,
    )
    for line in describe_settings(settings, origins):
        typer.echo(line, err=True)
    if check:
        return
    try:
        from crossrank.server.process import run
    except ImportError as error:
        # A module that is not there, or one too old for what is taken from it: the error says which.
        raise MissingDependencyError(f"serving cannot start: {error}; pip install 'crossrank[cpu,server]'") from error
    raise typer.Exit(run(settings))
