"""`crossrank models`: the embedded models and the catalogue of known checkpoints."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from crossrank.cli.common import out, reports_errors
from crossrank.models.artifact import Artifact
from crossrank.models.catalogue import load_catalogue
from crossrank.models.embedded import EMBEDDED_MODELS, embedded_artifact


@reports_errors
def models_command(
    context: typer.Context,  # noqa: ARG001
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
) -> None:
    """List the models that have a short name: the embedded ones and well-known public checkpoints."""
    entries = load_catalogue()
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=2))
        return
    console = out()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "repository", "architecture", "tokens", "activation", "licence"):
        table.add_column(
            column, justify="right" if column == "tokens" else "left", no_wrap=column == "name", overflow="fold"
        )
    for name in EMBEDDED_MODELS:
        manifest = Artifact.open(embedded_artifact(name)).manifest
        table.add_row(
            name,
            f"(embedded, {manifest.architecture.num_hidden_layers} layers)",
            manifest.architecture.model_type,
            str(manifest.max_length),
            manifest.activation,
            manifest.source.licence,
        )
    for entry in entries:
        table.add_row(
            entry.name, entry.repository, entry.model_type, str(entry.max_length), entry.activation, entry.licence
        )
    console.print(table)
    console.print("\nThe others are fetched and exported once, at first use, with the export extra:")
    console.print("  pip install 'crossrank[cpu,export]'", markup=False)
