"""`crossrank models`: the embedded models and the catalogue of known checkpoints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from crossrank.cli.common import out, plain_table
from crossrank.cli.options import PrintJsonOption
from crossrank.models.artifact import Artifact
from crossrank.models.catalogue import load_catalogue
from crossrank.models.embedded import EMBEDDED_MODELS, embedded_artifact

if TYPE_CHECKING:
    from crossrank.models.catalogue import ReadyOnnx


def models_command(
    *,
    as_json: PrintJsonOption = False,
) -> None:
    """List the models that have a short name: the embedded ones and well-known public checkpoints."""
    entries = load_catalogue()
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=2))
        return
    console = out()
    columns = ("name", "repository", "architecture", "tokens", "activation", "licence", "ready ONNX file")
    table = plain_table(columns, right={"tokens"}, no_wrap={"name"})
    for name in EMBEDDED_MODELS:
        manifest = Artifact.open(embedded_artifact(name)).manifest
        table.add_row(
            name,
            f"(embedded, {manifest.architecture.num_hidden_layers} layers)",
            manifest.architecture.model_type,
            str(manifest.max_length),
            manifest.activation,
            manifest.source.licence,
            "",
        )
    for entry in entries:
        table.add_row(
            entry.name,
            entry.repository,
            entry.model_type,
            str(entry.max_length),
            entry.activation,
            entry.licence,
            _ready(entry.onnx),
        )
    console.print(table)
    console.print(
        "\nThe others are fetched once, at first use or by 'crossrank pull NAME': their checkpoint is exported"
    )
    console.print(
        "with the export extra, else their ready ONNX file is taken, which needs the onnx extra and no torch:"
    )
    console.print("  pip install 'crossrank[cpu,export]'   or   pip install 'crossrank[cpu,onnx]'", markup=False)


def _ready(onnx: ReadyOnnx | None) -> str:
    if onnx is None:
        return ""
    where = f"{onnx.repository} " if onnx.repository else ""
    return f"{where}{onnx.file}{'' if onnx.verified else ' (unverified)'}"
