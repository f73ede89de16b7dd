"""`crossrank pull`: fetch a model and make what runs of it, ahead of time."""

from __future__ import annotations

from typing import Annotated

import typer

from crossrank.cli.common import json_text, out
from crossrank.cli.inspect import print_manifest
from crossrank.cli.options import (
    PositiveLabelOption,
    PrintJsonOption,
    TrustRemoteCodeOption,
    model_names,
)
from crossrank.cli.progress import ProgressDisplay
from crossrank.models.artifact import Artifact
from crossrank.models.manifest import PrecisionChoice, ProviderChoice


def pull_command(
    model: Annotated[
        str, typer.Argument(metavar="NAME", help="As for 'crossrank rerank --model'.", autocompletion=model_names)
    ],
    *,
    provider: Annotated[ProviderChoice, typer.Option(help="What it is to run on.")] = "auto",
    precision: Annotated[
        PrecisionChoice, typer.Option(help="Of the graph; default: int8 on the CPU, fp16 on CUDA.")
    ] = "auto",
    file: Annotated[
        str | None, typer.Option(metavar="PATH", help="Take this ONNX file of the repository, not the checkpoint.")
    ] = None,
    positive_label: PositiveLabelOption = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub repository.")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Ask what the revision is now; the commit fetched first stays otherwise.")
    ] = False,
    trust_remote_code: TrustRemoteCodeOption = False,
    as_json: PrintJsonOption = False,
) -> None:
    """Fetch a model, export and verify it, and keep it, so that it runs without a network from then on."""
    from crossrank.resolve import resolve_model

    with ProgressDisplay() as progress:
        folder = resolve_model(
            model,
            provider=provider,
            precision=precision,
            revision=revision,
            file=file,
            positive_label=positive_label,
            trust_remote_code=trust_remote_code,
            update=update,
            progress=progress.show,
        )
    artifact = Artifact.open(folder)
    artifact.verify()
    if as_json:
        typer.echo(json_text({"folder": str(folder), "manifest": artifact.manifest.model_dump(mode="json")}, indent=2))
    else:
        print_manifest(folder, artifact.manifest)
        found_by_name = file is None and revision is None and positive_label is None
        out().print(f"try: crossrank rerank -m {model if found_by_name else folder} -q ... FILE")
