"""Putting graphs into an artifact folder, verifying them there, and describing them in its manifest.

Both ways to an artifact end here: the export of a checkpoint and the import of an ONNX file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from crossrank.engine.text.documents import encodable
from crossrank.errors import ArtifactError, InvalidInputError
from crossrank.export.checkpoint.one_segment import with_one_segment
from crossrank.export.checkpoint.tokenizer import TOKENIZER_NAME, write_tokenizer
from crossrank.export.graph.files import EXTERNAL_DATA_FROM, save_graph
from crossrank.export.graph.interface import check_interface, input_names
from crossrank.export.graph.tools import opset_of
from crossrank.export.report import GraphReport
from crossrank.export.verify.fidelity import measure, significant
from crossrank.export.verify.pairs import choose_reference_pairs
from crossrank.export.verify.verification import Bounds, check, ignores_other_pairs, run_graph
from crossrank.models.artifact import record_files
from crossrank.models.artifact_writer import ArtifactWriter, write_manifest
from crossrank.models.manifest import Fidelity, Graph, Manifest, Verification

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import onnx
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from crossrank.engine.text.encoding import PairEncoder
    from crossrank.export.checkpoint.checkpoint import Checkpoint
    from crossrank.export.cuda_placement.placement import PlacementProblem
    from crossrank.export.pass_lists import PassList
    from crossrank.export.report import Recorder
    from crossrank.export.verify.pairs import VerificationQuery
    from crossrank.export.verify.verification import GraphRuns
    from crossrank.models.manifest import Batching, PassRecord, Precision

_FP16_NOTE = "{file} was measured on the CPU, which shows the rounding of its weights and no float16 arithmetic"
_UNMEASURED = Fidelity(reference="unmeasured", queries=0, pairs=0, max_abs_logit_difference=0.0)


@dataclass
class Assembly:
    """An artifact under construction.

    Attributes:
        folder: where the files are placed.
        checkpoint: what the manifest says of the model.
        name: the artifact's name.
        versions: libraries that made it.
        queries: the verification queries, fitted to the model.
        bounds: how faithful the graphs have to be.
        recorder: times the steps.
        external_data_from: bytes of weights from which they go into a file of their own.
        verification: what the scores were compared with, once they were.
        not_made: precisions that were wanted and that no pass could make of this graph, with the reason.
        probe_notes: what a user should know of the comparison on probe pairs, in sentences.
    """

    folder: Path
    checkpoint: Checkpoint
    name: str
    versions: dict[str, str]
    queries: Sequence[VerificationQuery]
    bounds: Bounds
    recorder: Recorder
    external_data_from: int = EXTERNAL_DATA_FROM
    verification: Verification | None = None
    not_made: dict[Precision, str] = field(default_factory=dict)
    probe_notes: list[str] = field(default_factory=list)
    _graphs: dict[Precision, Graph] = field(default_factory=dict)
    _runs: dict[Precision, GraphRuns] = field(default_factory=dict)
    _misplaced: dict[Precision, list[PlacementProblem]] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the graphs placed so far and their verification, and figures do not show."""
        from crossrank.export.cuda_placement.placement import placement_note

        notes = list(self.probe_notes)
        for precision, graph in self._graphs.items():
            if self._misplaced.get(precision):
                notes.append(placement_note(graph.file, self._misplaced[precision]))
            if precision == "fp16":
                notes.append(_FP16_NOTE.format(file=graph.file))
        notes += [f"no {precision} graph was made: {reason}" for precision, reason in self.not_made.items()]
        return tuple(notes)

    @property
    def verified(self) -> Verification:
        """What the scores were compared with; only after they were."""
        assert self.verification is not None  # noqa: S101  every way to an artifact goes through it
        return self.verification

    def place_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Write the tokenizer, which verification needs before any graph."""
        write_tokenizer(tokenizer, self.folder)

    def encoder(self) -> PairEncoder:
        """The engine's encoder over the placed tokenizer."""
        from crossrank.engine.text.encoding import PairEncoder

        return PairEncoder.load(
            self.folder / TOKENIZER_NAME,
            max_length=self.checkpoint.max_length,
            pad_token_id=self.checkpoint.pad_token_id,
            template=self.checkpoint.template,
            causal=self.checkpoint.causal,
        )

    def place_graph(self, model: onnx.ModelProto, pass_list: PassList, passes: tuple[PassRecord, ...]) -> None:
        """Write a graph and, if it is for CUDA, check on which device its nodes run; fidelity is measured later.

        Args:
            model: the graph.
            pass_list: what made it, which says what it is for.
            passes: what the passes did.
        """
        from crossrank.export.cuda_placement.placement import lint_placement, placement_record

        if not self.checkpoint.causal:  # whose graph was checked before it took a beginning
            check_interface(model)
        if "cuda" in pass_list.providers:
            problems = lint_placement(model)
            self._misplaced[pass_list.precision] = problems
            passes = (*passes, placement_record(problems))
        file = f"{pass_list.precision}.onnx"
        inputs, opset = input_names(model), opset_of(model)
        with self.recorder.step(f"write {file}") as step:
            external = save_graph(model, self.folder, file, external_data_from=self.external_data_from)
            step.size = self._size(file, *external)
        self._graphs[pass_list.precision] = Graph(
            file=file,
            external_data=external,
            precision=pass_list.precision,
            opset=opset,
            providers=pass_list.providers,
            inputs=inputs,
            batching=pass_list.batching,
            passes=passes,
            fidelity=_UNMEASURED,
            reference_logits=(),
        )

    def verify(self, precision: Precision, reference: list[NDArray[np.float32]] | None, *, name: str) -> GraphRuns:
        """Run a graph through the engine and measure it.

        Args:
            precision: which graph.
            reference: logits of the verification pairs, one array a query; None to compare the graph's runs in
                batches with its runs alone.
            name: what the reference is: "pytorch", "fp32" or "self".

        Returns:
            The graph's logits.

        Raises:
            FidelityError: the graph fails on the verification pairs.
        """
        with self.recorder.step(f"verify {precision} against {name}") as step:
            # The engine needs a manifest, and on the CPU opens only graphs whose manifest entry lists the CPU.
            graph = self._graphs[precision]
            local = graph.model_copy(update={"providers": ("cpu",)})
            write_manifest(self.folder, self._manifest([local]))
            runs = run_graph(self.folder, precision, self.queries, advance=step.advance)
            # Decoders keep to it: pairs of several queries, which are tried, never share a run of one.
            if graph.batching == "single" and not self.checkpoint.causal:
                graph = graph.model_copy(update={"batching": self._batching(graph)})
        expected = runs.single if reference is None else reference
        if precision == "fp32" or name == "self":
            self.bounds = self.bounds.suiting(expected)
        self._runs[precision] = runs
        self._graphs[precision] = graph.model_copy(
            update={
                "fidelity": measure(expected, runs.all, name=name),
                "reference_logits": self._reference_logits(runs),
            }
        )
        return runs

    def _batching(self, graph: Graph) -> Batching:
        """Which pairs may share a run, for a graph whose scores must not depend on the rest of the batch in any bit."""
        # A graph without a mask treats padding as text.
        possible: tuple[Batching, ...] = (
            ("packed", "equal_length") if "attention_mask" in graph.inputs else ("equal_length",)
        )
        for batching in possible:
            if ignores_other_pairs(self.folder, graph.precision, self.queries, batching):
                return batching
        return "single"

    def check_bounds(self) -> None:
        """Check every graph measured so far against its bounds.

        Raises:
            FidelityError: one misses them.
        """
        check(((graph.precision, graph.fidelity) for graph in self._graphs.values()), self.bounds)

    def keep_graphs(self, precisions: Sequence[Precision]) -> None:
        """Remove the graphs of other precisions, which were only needed to measure these."""
        for precision in self._graphs.keys() - set(precisions):
            graph = self._graphs.pop(precision)
            for file in (graph.file, *graph.external_data):
                (self.folder / file).unlink()

    def finish(self) -> tuple[Manifest, tuple[GraphReport, ...]]:
        """The manifest to commit, and a report of each graph."""
        graphs = list(self._graphs.values())
        pairs = tuple(pair for _, pair in choose_reference_pairs(self.queries))
        manifest = self._manifest(graphs).model_copy(update={"reference_pairs": pairs})
        # model_copy does not validate, and the written manifest must be readable.
        return Manifest.model_validate(manifest.model_dump()), tuple(self._report(graph) for graph in graphs)

    def _manifest(self, graphs: Sequence[Graph]) -> Manifest:
        from crossrank import __version__

        checkpoint = self.checkpoint
        names = [name for graph in graphs for name in (graph.file, *graph.external_data)]
        records = record_files(self.folder, [TOKENIZER_NAME, *names])
        draft = Manifest(
            name=self.name,
            crossrank_version=__version__,
            library_versions=self.versions,
            source=checkpoint.source,
            architecture=checkpoint.architecture,
            max_length=checkpoint.max_length,
            pad_token_id=checkpoint.pad_token_id,
            uses_segment_ids=checkpoint.uses_segment_ids,
            num_labels=checkpoint.num_labels,
            positive_label=checkpoint.positive_label,
            label_names=checkpoint.label_names,
            activation=checkpoint.activation,
            causal=checkpoint.causal,
            template=checkpoint.template,
            graphs=tuple(graph.model_copy(update={"reference_logits": ()}) for graph in graphs),
            reference_pairs=(),
            files=records,
            verification=self.verification,
        )
        return draft.model_copy(update={"graphs": tuple(graphs)})

    def _reference_logits(self, runs: GraphRuns) -> tuple[float, ...]:
        flat = [float(logit) for logits in runs.single for logit in logits]
        return tuple(significant(flat[index]) for index, _ in choose_reference_pairs(self.queries))

    def _report(self, graph: Graph) -> GraphReport:
        return GraphReport(
            precision=graph.precision,
            file=graph.file,
            size=self._size(graph.file, *graph.external_data),
            providers=graph.providers,
            fidelity=graph.fidelity,
            passes=graph.passes,
            milliseconds_per_pair=self._runs[graph.precision].milliseconds_per_pair,
        )

    def _size(self, *files: str) -> int:
        return sum((self.folder / file).stat().st_size for file in files)


def open_writer(out: str | Path, *, force: bool) -> ArtifactWriter:
    """The writer of the artifact; checks that the target can be written.

    Raises:
        ArtifactError: the target exists already, cannot be replaced, or cannot be looked at.
    """
    try:
        return ArtifactWriter(out, force=force)
    except OSError as error:
        raise ArtifactError(
            f"cannot look at {out}: {error}; name a folder that this user can read and write"
        ) from error


def checked_name(name: str | None) -> str | None:
    """An artifact's name as the caller states it, refused where the manifest could not hold it.

    Raises:
        InvalidInputError: it is blank, or no text that UTF-8 can write.
    """
    if name is None:
        return None
    if not isinstance(name, str) or not name.strip() or encodable(name) != name:
        raise InvalidInputError(
            f"name={name!r}: a text that is not blank and that UTF-8 can write expected; "
            f"leave it out to name the artifact after its source"
        )
    return name


def with_segments(checkpoint: Checkpoint, model: onnx.ModelProto) -> Checkpoint:
    """The checkpoint's description with the segment ids that the graph is to be given: its own, zeros, or none.

    Raises:
        UnsupportedCheckpointError: it is to be given zeros, and the tokenizer cannot be made to number tokens so.
    """
    if "token_type_ids" not in input_names(model):
        return replace(checkpoint, uses_segment_ids=False)
    if checkpoint.uses_segment_ids:
        return checkpoint
    return replace(checkpoint, tokenizer=with_one_segment(checkpoint.tokenizer))
