"""The export of a checkpoint: read, export, run the passes, verify, write the artifact."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from crossrank.export.assembly import with_segments
from crossrank.export.checkpoint.checkpoint import read_checkpoint
from crossrank.export.checkpoint.to_onnx import to_onnx
from crossrank.export.checkpoint.torch_model import load_torch_model
from crossrank.export.dependencies import checked_exporter, library_versions, require_export
from crossrank.export.flow import ArtifactOptions, ModelReader, make_artifact
from crossrank.export.graph.files import EXTERNAL_DATA_FROM, weight_bytes
from crossrank.export.graph.interface import input_types
from crossrank.export.graph_making import make_graphs
from crossrank.export.memory import release
from crossrank.export.pass_lists import (
    DECODER_PASS_LISTS,
    PASS_LISTS,
    PassContext,
    PassRunner,
    checked_precisions,
    possible_precisions,
)
from crossrank.export.verify.comparison import compare_on_probes, load_reference, read_limits
from crossrank.export.verify.pairs import (
    all_pairs,
    calibration_feeds,
    calibration_queries,
    fit_queries,
    split_by_query,
)
from crossrank.export.verify.reference import refuse_no_numbers
from crossrank.export.verify.verification import MIN_KENDALL_TAU

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from crossrank.export.assembly import Assembly
    from crossrank.export.checkpoint.checkpoint import Checkpoint
    from crossrank.export.dependencies import Exporter
    from crossrank.export.report import ExportEvent, ExportReport, Recorder
    from crossrank.export.verify.reference import Reference
    from crossrank.models.manifest import Activation, Precision
    from crossrank.models.templates import TemplateName


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
    template: TemplateName | None = None,
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
            (`torch.onnx.export(dynamo=True)`); None for the first of these that is installed. Graphs of decoders are
            made by neither.
        template: the text around query and document that a language model was trained with; None for what the
            catalogue says of it.
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
    read = partial(
        read_checkpoint,
        checkpoint,
        revision=revision,
        trust_remote_code=trust_remote_code,
        local_files_only=local_files_only,
        activation=activation,
        positive_label=positive_label,
        max_length=max_length,
        template=template,
    )
    reader = _CheckpointReader(f"exporting {checkpoint}", read, checked_precisions(precisions), exporter)
    options = ArtifactOptions(out, force, verification_pairs, min_kendall_tau, name, external_data_from, progress)
    return make_artifact(reader, options)


class _CheckpointReader(ModelReader):
    """Exports a checkpoint, and measures against PyTorch."""

    def __init__(
        self,
        doing: str,
        read: Callable[[], Checkpoint],
        precisions: tuple[Precision, ...],
        exporter: Exporter | None,
    ) -> None:
        self.doing = doing
        self.wanted = precisions
        self._read = read
        self._stated_exporter = checked_exporter(exporter)

    def require(self) -> None:
        self._exporter = require_export(self._stated_exporter)

    def read(self, recorder: Recorder) -> Checkpoint:
        with recorder.step("read the checkpoint") as step:
            self._checkpoint = self._read()
            if self._checkpoint.source.code_sha256 and self._stated_exporter is None:
                # optimum knows families by their names, and code of a checkpoint's own is of none.
                self._exporter = require_export("torch")
            weights = self._checkpoint.source.weights_sha256
            step.size = sum((self._checkpoint.folder / file).stat().st_size for file in weights)
        self.wanted, self._not_made = possible_precisions(self._checkpoint, self.wanted, self._stated_exporter)
        self.name = self._checkpoint.source.id
        self.versions = library_versions(self._exporter)
        return self._checkpoint

    def make(self, assembly: Assembly) -> None:
        assembly.not_made.update(self._not_made)
        runner, reference, logits = self._prepare(assembly)
        release(sum(step.size for step in assembly.recorder.steps))
        limits = read_limits(self._checkpoint)
        make_graphs(
            assembly,
            runner,
            self.wanted,
            logits,
            name="pytorch",
            pass_lists=DECODER_PASS_LISTS if self._checkpoint.causal else PASS_LISTS,
            probe=lambda: compare_on_probes(assembly, reference, limits),
        )

    def _prepare(self, assembly: Assembly) -> tuple[PassRunner, Reference, list[NDArray[np.float32]]]:
        """Everything that needs torch: the exported graph, the tokenizer, and what to measure against."""
        checkpoint, recorder = self._checkpoint, assembly.recorder
        with recorder.step("load the checkpoint"):
            model = load_torch_model(checkpoint)
        with recorder.step("export to ONNX") as step:
            graph = to_onnx(checkpoint, model, self._exporter)
            step.size = weight_bytes(graph)
        del model
        assembly.checkpoint = with_segments(checkpoint, graph)
        assembly.place_tokenizer(assembly.checkpoint.tokenizer)
        encoder = assembly.encoder()
        with recorder.step("load the reference"):
            reference = load_reference(checkpoint)
        assembly.queries = fit_queries(assembly.queries, encoder, cuts_longer_text=reference.cuts_longer_text)
        with recorder.step("score with PyTorch") as step:
            logits = reference.logits(all_pairs(assembly.queries), advance=step.advance)
            refuse_no_numbers(logits, reference, checkpoint.source.id)
        calibration = calibration_feeds(calibration_queries(assembly.queries), encoder, input_types(graph))
        runner = PassRunner(graph, PassContext(assembly.checkpoint.architecture, calibration))
        return runner, reference, split_by_query(logits, assembly.queries)
