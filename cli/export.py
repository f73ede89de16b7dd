"""`crossrank export`: a checkpoint, or an ONNX file that exists already, to a verified artifact."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from crossrank.cli.common import json_text, out, plain_table
from crossrank.cli.inspect import fidelity_cells, pass_line
from crossrank.cli.options import PositiveLabelOption, TrustRemoteCodeOption
from crossrank.cli.progress import ProgressDisplay
from crossrank.errors import InvalidInputError
from crossrank.export.dependencies import Exporter
from crossrank.models.manifest import Activation, Precision
from crossrank.models.templates import TemplateName

if TYPE_CHECKING:
    from crossrank.export.hub.ready_graph import ReadyGraph
    from crossrank.export.report import ExportReport


def export_command(
    source: Annotated[
        str, typer.Argument(metavar="CHECKPOINT OUT", help="Checkpoint folder or hub id (left out with --from-onnx).")
    ],
    target: Annotated[
        Path | None, typer.Argument(metavar="", help="Folder of the artifact.", show_default=False)
    ] = None,
    *,
    precision: Annotated[
        str | None, typer.Option(help="Graphs to make, comma-separated: fp32, int8 (CPU), fp16 (CUDA).")
    ] = None,
    from_onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Import this ONNX file; needs no torch.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="With --from-onnx: folder of tokenizer.json (and config.json)."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Import this ONNX file of the hub repository or folder; needs no torch."),
    ] = None,
    exporter: Annotated[
        Exporter | None, typer.Option(help="What makes the ONNX graph; default: the first that is installed.")
    ] = None,
    template: Annotated[
        TemplateName | None,
        typer.Option(help="Text around query and document of a language model; default: what the catalogue says."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the artifact; default: the checkpoint's.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    activation: Annotated[
        Activation | None, typer.Option(help="Default: what the checkpoint or the catalogue says.")
    ] = None,
    positive_label: PositiveLabelOption = None,
    max_length: Annotated[int | None, typer.Option(min=8, help="Tokens of a pair; default: the most it takes.")] = None,
    verification_pairs: Annotated[
        Path | None, typer.Option(metavar="JSONL", help='Lines {"query", "documents"} to verify on; default: our own.')
    ] = None,
    min_kendall_tau: Annotated[
        float, typer.Option(min=-1, max=1, help="Least rank correlation of int8 and fp16 with fp32.")
    ] = 0.85,
    force: Annotated[bool, typer.Option("--force", help="Replace an artifact that is there.")] = False,
    trust_remote_code: TrustRemoteCodeOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report for programs.")] = False,
) -> None:
    """Turn a cross-encoder checkpoint into a verified artifact, which appears whole or not at all."""
    if name is not None and not name.strip():
        raise InvalidInputError(f"--name {name!r}: a name that is not blank expected, or no --name")
    if from_onnx is None and target is None:
        raise InvalidInputError("crossrank export takes CHECKPOINT and OUT; OUT is missing")
    if from_onnx is None and tokenizer is not None:
        raise InvalidInputError("--tokenizer goes with --from-onnx; a checkpoint brings its own")
    if from_onnx is not None and (tokenizer is None or target is not None or file is not None):
        raise InvalidInputError(
            "--from-onnx needs --tokenizer FOLDER, the folder with tokenizer.json, and takes OUT alone: no checkpoint "
            "and no --file"
        )
    if from_onnx is not None and revision is not None:
        raise InvalidInputError("--revision goes with a hub repository, not with --from-onnx")
    if (from_onnx is not None or file is not None) and (
        trust_remote_code or exporter is not None or template is not None
    ):
        raise InvalidInputError(
            "--trust-remote-code, --exporter and --template go with a checkpoint, not with an ONNX file (--from-onnx, "
            "--file)"
        )
    graphs = None if precision is None else _precisions(precision)
    make: partial[ExportReport]
    if target is not None and file is None:
        from crossrank.export import export

        make = partial(export, source, target, precisions=graphs or ("fp32", "int8", "fp16"), revision=revision)
        make = partial(make, trust_remote_code=trust_remote_code, exporter=exporter, template=template)
    else:
        from crossrank.export import import_onnx

        graph, folder, fetched = _onnx_file(source, file, revision, from_onnx, tokenizer)
        make = partial(import_onnx, graph, folder, target or Path(source), precisions=graphs, fetched=fetched)
    with ProgressDisplay() as progress:
        report = make(
            force=force,
            activation=activation,
            positive_label=positive_label,
            max_length=max_length,
            verification_pairs=verification_pairs,
            min_kendall_tau=min_kendall_tau,
            name=name,
            progress=progress.show,
        )
    if as_json:
        typer.echo(json_text(report.to_json(), indent=2))
    else:
        _print_report(report)


def _onnx_file(
    source: str, file: str | None, revision: str | None, from_onnx: Path | None, tokenizer: Path | None
) -> tuple[Path, Path, ReadyGraph | None]:
    """The ONNX file, the folder of its tokenizer, and where they were fetched from, if they were."""
    if from_onnx is not None and tokenizer is not None:
        return from_onnx, tokenizer, None
    from crossrank.export.hub.ready_graph import find_ready_graph

    graph = find_ready_graph(source, file, revision=revision, show_progress=True)
    return graph.file, graph.folder, graph if graph.hub_id else None


def _precisions(text: str) -> tuple[Precision, ...]:
    # Whether these are precisions is for the export to check: its message lists them.
    precisions = tuple(part.strip() for part in text.split(",") if part.strip())
    if not precisions:
        raise InvalidInputError(f"--precision {text!r}: one or more of fp32, int8, fp16 expected")
    return cast("tuple[Precision, ...]", precisions)


def _print_report(report: ExportReport) -> None:
    console = out()
    columns = ("graph", "MB", "for", "reference", "max |diff|", "tau", "top 10", "ms a pair here")
    table = plain_table(columns, right={*columns} - {"graph", "for", "reference"})
    for graph in report.graphs:
        table.add_row(
            graph.file,
            f"{graph.size / 1e6:.1f}",
            ", ".join(graph.providers),
            *fidelity_cells(graph.fidelity),
            f"{graph.milliseconds_per_pair:.1f}",
        )
    console.print(table)
    for graph in report.graphs:
        for record in graph.passes:
            console.print(f"  {graph.precision} {pass_line(record)}")
    for note in report.notes:
        console.print(f"note: {note}")
    verified = report.verification
    console.print(
        f"compared with {verified.reference}; on {verified.probes} probe pairs scores differ by "
        f"{verified.max_abs_difference:.2g} at most"
    )
    seconds = sum(step.seconds for step in report.steps)
    console.print(
        f"{report.artifact} written in {seconds:.0f} s; try: crossrank rerank -m {report.artifact} -q ... FILE"
    )
