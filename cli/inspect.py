"""`crossrank inspect`: shows an artifact, verifies its files, and compares this machine's scores with the recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from crossrank.cli.common import FAILURE, json_text, out, plain_table, status
from crossrank.cli.options import PrintJsonOption, embedded_names
from crossrank.models.artifact import Artifact
from crossrank.models.embedded import EMBEDDED_MODELS, embedded_artifact

if TYPE_CHECKING:
    from crossrank.engine.runtime.reference_pairs import GraphCheck
    from crossrank.models.manifest import Fidelity, Manifest, PassRecord


def inspect_command(
    artifact: Annotated[
        str,
        typer.Argument(
            metavar="ARTIFACT", help="A folder, 'default' or 'default-small'.", autocompletion=embedded_names
        ),
    ],
    *,
    as_json: PrintJsonOption = False,
    check: Annotated[bool, typer.Option("--check", help="Score the reference pairs again on this machine.")] = False,
) -> None:
    """Describe an artifact, after checking the digests of all its files."""
    folder = embedded_artifact(artifact) if artifact in EMBEDDED_MODELS else Path(artifact)
    opened = Artifact.open(folder)
    opened.verify()
    checks: list[GraphCheck] = []
    if check:
        from crossrank.engine.runtime.reference_pairs import check_reference_pairs

        with status("scoring the reference pairs"):
            checks = check_reference_pairs(folder)
    if as_json:
        document: dict[str, Any] = {"folder": str(folder), "manifest": opened.manifest.model_dump(mode="json")}
        if check:
            document["checks"] = [dataclasses.asdict(item) | {"passed": item.passed} for item in checks]
        typer.echo(json_text(document, indent=2))
    else:
        print_manifest(folder, opened.manifest)
        if check:
            _print_checks(checks)
    if not all(item.passed for item in checks):
        raise typer.Exit(FAILURE)


def print_manifest(folder: Path, manifest: Manifest) -> None:
    """Print what an artifact is, for people; the digests of its files have been checked."""
    from crossrank.engine.plan.batch_kinds import KINDS

    console = out()
    size = {record.path: record.size for record in manifest.files}
    source, shape = manifest.source, manifest.architecture
    rows = {
        "artifact": f"{folder} (schema {manifest.schema_version}, files verified)",
        "model": manifest.name,
        "source": " ".join(part for part in (source.kind, source.id, source.revision) if part),
        "made of": "\n".join(
            f"{name} (sha256 {digest})" for name, digest in (source.weights_sha256 | source.files_sha256).items()
        ),
        "code of its own": "\n".join(f"{name} (sha256 {digest})" for name, digest in source.code_sha256.items())
        or "none ran",
        "compared with": manifest.verification.reference if manifest.verification else "not recorded",
        "licence": source.licence or "not stated",
        "architecture": f"{shape.model_type}, {shape.num_hidden_layers} layers, hidden {shape.hidden_size}, "
        f"{shape.num_attention_heads} heads, vocabulary {shape.vocab_size}",
        "max length": f"{manifest.max_length} tokens",
        "segment ids": "yes" if manifest.uses_segment_ids else "no",
        "labels": _labels(manifest),
        "template": "none" if manifest.template is None else manifest.template.name,
        "activation": manifest.activation,
        "made by": f"crossrank {manifest.crossrank_version}, "
        + ", ".join(f"{name} {version}" for name, version in sorted(manifest.library_versions.items())),
    }
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in rows.items():
        facts.add_row(name, value)
    console.print(facts)
    columns = ("file", "precision", "MB", "for", "runs", "reference", "max |diff|", "tau", "top 10")
    graphs = plain_table(columns, right={"MB", "max |diff|", "tau", "top 10"}, title="graphs")
    for graph in manifest.graphs:
        megabytes = sum(size[path] for path in (graph.file, *graph.external_data)) / 1e6
        graphs.add_row(
            graph.file,
            graph.precision,
            f"{megabytes:.1f}",
            ", ".join(graph.providers),
            "batches" if KINDS[graph.batching].mixes_lengths else graph.batching,
            *fidelity_cells(graph.fidelity),
        )
    console.print(graphs)
    for graph in manifest.graphs:
        for record in graph.passes:
            console.print(f"  {graph.precision} {pass_line(record)}")


def _labels(manifest: Manifest) -> str:
    if manifest.num_labels == 1:
        return "1"
    names = manifest.label_names
    named = f" ({', '.join(names)})" if names else ""
    relevant = repr(names[manifest.positive_label]) if names else manifest.positive_label
    return f"{manifest.num_labels}{named}, label {relevant} means relevant"


def pass_line(record: PassRecord) -> str:
    """One line on what an export pass did."""
    return f"{record.name}: {record.detail or ('done' if record.changed else 'no change')}"


def fidelity_cells(fidelity: Fidelity) -> tuple[str, str, str, str]:
    """Reference, largest difference, Kendall tau and top-10 overlap of a graph, for a table."""
    return (
        fidelity.reference,
        f"{fidelity.max_abs_logit_difference:.2g}",
        "" if fidelity.kendall_tau is None else f"{fidelity.kendall_tau:.3f}",
        "" if fidelity.top10_overlap is None else f"{fidelity.top10_overlap:.3f}",
    )


def _print_checks(checks: list[GraphCheck]) -> None:
    table = plain_table(("file", "pairs", "largest difference", "tolerance", ""), title="reference pairs here")
    for item in checks:
        verdict = ("agrees" if item.passed else "DIFFERS") if item.pairs else "has no pairs to compare"
        table.add_row(item.file, str(item.pairs), f"{item.largest_difference:.2g}", f"{item.tolerance:g}", verdict)
    out().print(table)
