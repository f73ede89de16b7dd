"""`crossrank pull`: fetch a model and make what runs of it, ahead of time."""

from __future__ import annotations

from typing import Annotated

import typer

from crossrank.cli.common import json_text, out, reports_errors
from crossrank.cli.inspect import print_manifest
from crossrank.cli.options import PrecisionOption, ProviderOption
from crossrank.cli.progress import ProgressDisplay
from crossrank.models.artifact import Artifact


@reports_errors
def pull_command(  # noqa: PLR0913  one parameter an option
    context: typer.Context,  # noqa: ARG001
    model: Annotated[str, typer.Argument(metavar="NAME", help="As for 'crossrank rerank --model'.")],
    *,
    provider: Annotated[ProviderOption, typer.Option(help="What it is to run on.")] = ProviderOption.auto,
    precision: Annotated[
        PrecisionOption, typer.Option(help="Of the graph; default: int8 on the CPU, fp16 on CUDA.")
    ] = PrecisionOption.auto,
    file: Annotated[
        str | None, typer.Option(metavar="PATH", help="Take this ONNX file of the repository, not the checkpoint.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub repository.")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Ask what the revision is now; the commit fetched first stays otherwise.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Allow code that comes with a checkpoint to run.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
) -> None:
    """Fetch a model, export and verify it, and keep it, so that it runs without a network from then on."""
    from crossrank.resolve import resolve_model

    with ProgressDisplay() as progress:
        folder = resolve_model(
            model,
            provider=provider.value,
            precision=precision.value,
            revision=revision,
            file=file,
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
        found_by_name = file is None and revision is None
        out().print(f"try: crossrank rerank -m {model if found_by_name else folder} -q ... FILE")
