"""`crossrank models`: the embedded model and the catalogue of known checkpoints."""

from __future__ import annotations

import json

import typer

from crossrank.cli.common import out, plain_table
from crossrank.cli.options import PrintJsonOption
from crossrank.models.catalogue import load_catalogue


def models_command(
    *,
    as_json: PrintJsonOption = False,
) -> None:
    """List the models that have a short name: the embedded one and well-known public checkpoints."""
    entries = load_catalogue()
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=2))
        return
    console = out()
    columns = ("name", "repository", "architecture", "tokens", "activation", "licence")
    table = plain_table(columns, right={"tokens"}, no_wrap={"name"})
    table.add_row("default", "(embedded)", "bert", "512", "identity", "Apache-2.0")
    for entry in entries:
        table.add_row(
            entry.name, entry.repository, entry.model_type, str(entry.max_length), entry.activation, entry.licence
        )
    console.print(table)
    console.print("\nThe others are fetched and exported once, at first use, with the export extra:")
    console.print("  pip install 'crossrank[cpu,export]'", markup=False)
