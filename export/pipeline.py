"""The export of a checkpoint: read, export, run the passes, verify, write the artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.errors import ExportError
from crossrank.export.assembly import Assembly, checked_name, open_writer, with_segments
from crossrank.export.checkpoint.checkpoint import read_checkpoint
from crossrank.export.checkpoint.to_onnx import to_onnx
from crossrank.export.checkpoint.torch_model import load_torch_model
from crossrank.export.dependencies import checked_exporter, library_versions, require_export
from crossrank.export.graph.files import EXTERNAL_DATA_FROM, surroundings_hint, weight_bytes
from crossrank.export.graph.interface import input_types
from crossrank.export.graph_making import make_graphs
from crossrank.export.memory import release
from crossrank.export.pass_lists import PassContext, PassRunner, checked_precisions
from crossrank.export.report import ExportReport, Recorder
from crossrank.export.verify.comparison import compare_on_probes, load_reference, read_limits
from crossrank.export.verify.pairs import (
    all_pairs,
    calibration_feeds,
    calibration_queries,
    fit_queries,
    load_queries,
    split_by_query,
)
from crossrank.export.verify.reference import refuse_no_numbers
from crossrank.export.verify.verification import MIN_KENDALL_TAU, Bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from crossrank.export.checkpoint.checkpoint import Checkpoint
    from crossrank.export.dependencies import Exporter
    from crossrank.export.report import ExportEvent
    from crossrank.export.verify.pairs import VerificationQuery
    from crossrank.export.verify.reference import Reference
    from crossrank.models.manifest import Activation, Precision


def export(  # noqa: PLR0913  one keyword an option of the command line
    checkpoint: str | Path,
    out: str | Path,
    *,
    precisions: Sequence[Precision] = ("fp32", "int8", "fp16"),
    force: bool = False,
    activation: Activation | None = None,
    positive_label: int | str | None = None,
    max_length: int | None = None,
    verification_pairs: Path | None = None,
    min_kendall_tau: float = MIN_KENDALL_TAU,
    name: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    local_files_only: bool = False,
    external_data_from: int = EXTERNAL_DATA_FROM,
    exporter: Exporter | None = None,
    progress: Callable[[ExportEvent], None] | None = None,
) -> ExportReport:
    """Turn a cross-encoder checkpoint into a verified artifact.

    Args:
        checkpoint: a folder (config.json, tokenizer, weights) or a hub id, which is fetched.
        out: folder of the artifact; it appears whole or not at all.
        precisions: graphs to make, of "fp32", "int8" (CPU) and "fp16" (CUDA).
        force: replace an artifact that is already there.
        activation: "identity" or "sigmoid"; None to take what the checkpoint or the catalogue says.
        positive_label: the index or name of the label that means relevant; None to derive it, of two at most.
        max_length: tokens of a pair; None for the most the checkpoint takes.
        verification_pairs: JSONL to verify on, a line {"query": ..., "documents": [...]}; None for crossrank's own.
        min_kendall_tau: least mean rank correlation of int8 and fp16 with fp32.
        name: the artifact's name; None for the checkpoint's.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: allow code that comes with the checkpoint to run.
        local_files_only: fetch nothing; a hub id must be in the hub's cache.
        external_data_from: bytes of weights from which a graph's weights go into a file of their own.
        exporter: what makes the ONNX graph: "optimum" (optimum-onnx, with the TorchScript exporter) or "torch"
            (`torch.onnx.export(dynamo=True)`); None for the first of these that is installed.
        progress: called with an event whenever a step starts, advances or ends.

    Returns:
        What was made, how faithful and how fast it is.

    Raises:
        MissingDependencyError: the export extra, the exporter named or onnxruntime is not installed.
        InvalidInputError: an option is outside its range or does not fit the checkpoint.
        ModelNotFoundError: no such checkpoint.
        UnsupportedCheckpointError: it is no cross-encoder crossrank can export.
        FidelityError: a graph misses its bounds; nothing was written, the message has the figures.
        ArtifactError: the target exists already, or cannot be written.
        ExportError: the export failed otherwise.
    """
    bounds, wanted = Bounds(min_kendall_tau=min_kendall_tau), checked_precisions(precisions)
    stated_name, stated_exporter = checked_name(name), checked_exporter(exporter)
    queries = load_queries(verification_pairs)
    writer = open_writer(out, force=force)
    chosen_exporter = require_export(stated_exporter)
    recorder = Recorder(progress)
    try:
        with recorder.step("read the checkpoint") as step:
            described = read_checkpoint(
                checkpoint,
                revision=revision,
                trust_remote_code=trust_remote_code,
                local_files_only=local_files_only,
                activation=activation,
                positive_label=positive_label,
                max_length=max_length,
            )
            if described.source.code_sha256 and stated_exporter is None:
                # optimum knows families by their names, and code of a checkpoint's own is of none.
                chosen_exporter = require_export("torch")
            step.size = sum((described.folder / file).stat().st_size for file in described.source.weights_sha256)
        with writer:
            assembly, base, reference, logits = _prepare(described, writer.folder, queries, chosen_exporter, recorder)
            assembly.name = stated_name or described.source.id
            assembly.external_data_from = external_data_from
            release(sum(step.size for step in recorder.steps))
            make_graphs(
                assembly,
                base,
                wanted,
                logits,
                name="pytorch",
                probe=lambda: compare_on_probes(assembly, reference, read_limits(described)),
            )
            assembly.check_bounds(bounds)
            if "fp32" not in wanted:
                assembly.drop_graph("fp32")
            manifest, graphs = assembly.finish()
            with recorder.step("commit the artifact") as step:
                artifact = writer.commit(manifest)
                step.size = sum(record.size for record in manifest.files)
    except OSError as error:
        hint = surroundings_hint(error, writer.target.parent)
        raise ExportError(f"exporting {checkpoint} to {out} failed, nothing was written: {error}{hint}") from error
    notes = (*described.notes, *assembly.notes)
    return ExportReport(artifact, manifest.name, graphs, recorder.steps, assembly.verified, notes, described.source)


def _prepare(
    checkpoint: Checkpoint,
    folder: Path,
    queries: Sequence[VerificationQuery],
    exporter: Exporter,
    recorder: Recorder,
) -> tuple[Assembly, PassRunner, Reference, list[NDArray[np.float32]]]:
    """Everything that needs torch: the exported graph, the tokenizer, and what to measure against."""
    with recorder.step("load the checkpoint"):
        model = load_torch_model(checkpoint)
    with recorder.step("export to ONNX") as step:
        graph = to_onnx(checkpoint, model, exporter)
        step.size = weight_bytes(graph)
    del model
    described = with_segments(checkpoint, graph)
    assembly = Assembly(
        folder=folder,
        checkpoint=described,
        name=checkpoint.source.id,
        versions=library_versions(exporter),
        queries=queries,
        recorder=recorder,
    )
    assembly.place_tokenizer(checkpoint.tokenizer)
    encoder = assembly.encoder()
    with recorder.step("load the reference"):
        reference = load_reference(checkpoint)
    assembly.queries = fit_queries(queries, encoder, cuts_longer_text=reference.cuts_longer_text)
    with recorder.step("score with PyTorch") as step:
        logits = reference.logits(all_pairs(assembly.queries), advance=step.advance)
        refuse_no_numbers(logits, reference, checkpoint.source.id)
    calibration = calibration_feeds(calibration_queries(assembly.queries), encoder, input_types(graph))
    runner = PassRunner(graph, PassContext(described.architecture, calibration))
    return assembly, runner, reference, split_by_query(logits, assembly.queries)
