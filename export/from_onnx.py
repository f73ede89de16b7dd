"""The import of an ONNX file that exists already, without torch: check it, verify it against itself, describe it."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.engine.text.documents import encodable
from crossrank.errors import InvalidInputError
from crossrank.export.dependencies import IMPORT_MODULES, library_versions, require
from crossrank.export.flow import ArtifactOptions, ModelReader, make_artifact
from crossrank.export.graph.files import EXTERNAL_DATA_FROM, weight_bytes
from crossrank.export.graph.interface import input_types
from crossrank.export.graph_making import make_graphs
from crossrank.export.onnx_file import read_onnx_file
from crossrank.export.pass_lists import PASS_LISTS, PassContext, PassRunner, checked_precisions
from crossrank.export.verify.comparison import compare_on_probes, read_limits
from crossrank.export.verify.onnx_reference import OnnxReference
from crossrank.export.verify.pairs import calibration_feeds, calibration_queries, fit_queries
from crossrank.export.verify.verification import MIN_KENDALL_TAU

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crossrank.export.assembly import Assembly
    from crossrank.export.checkpoint.checkpoint import Checkpoint
    from crossrank.export.hub.ready_graph import ReadyGraph
    from crossrank.export.onnx_file import OnnxFile
    from crossrank.export.report import ExportEvent, ExportReport, Recorder
    from crossrank.models.manifest import Activation, Precision, Verification


_NOT_THE_CHECKPOINT = (
    "compared with the ONNX file, not with the checkpoint: whether the file gives the checkpoint's scores was not tried"
)


def import_onnx(  # noqa: PLR0913  one keyword an option of the command line
    file: str | Path,
    tokenizer_folder: str | Path,
    out: str | Path,
    *,
    precisions: Sequence[Precision] | None = None,
    optimize: bool = True,
    force: bool = False,
    activation: Activation | None = None,
    positive_label: int | str | None = None,
    max_length: int | None = None,
    verification_pairs: Path | None = None,
    min_kendall_tau: float = MIN_KENDALL_TAU,
    name: str | None = None,
    external_data_from: int = EXTERNAL_DATA_FROM,
    fetched: ReadyGraph | None = None,
    progress: Callable[[ExportEvent], None] | None = None,
) -> ExportReport:
    """Turn an ONNX file into a verified artifact; torch is not needed.

    Every graph is measured against the file's own scores, one pair a run.

    Args:
        file: the graph, such as a hub repository's `onnx/model.onnx`; weights in files beside it come along.
        tokenizer_folder: folder of `tokenizer.json`, and of `config.json` and `tokenizer_config.json` where there are.
        out: folder of the artifact; it appears whole or not at all.
        precisions: graphs to make; None for the one the file is stored in. A float32 file gives all of "fp32",
            "int8" and "fp16", another only its own.
        optimize: run the passes of a checkpoint's export (pruning, fusion) over a float32 file too.
        force: replace an artifact that is already there.
        activation: "identity" or "sigmoid"; None to take what `config.json` or the catalogue says.
        positive_label: the index or name of the label that means relevant; None to derive it, of two at most.
        max_length: tokens of a pair; None for the most the configuration allows.
        verification_pairs: JSONL to verify on, a line {"query": ..., "documents": [...]}; None for crossrank's own.
        min_kendall_tau: least mean rank correlation of int8 and fp16 with fp32.
        name: the artifact's name; None for the hub repository's or the tokenizer folder's.
        external_data_from: bytes of weights from which a graph's weights go into a file of their own.
        fetched: what the file and the folder are of, where they were fetched from a hub; the manifest says so.
        progress: called with an event whenever a step starts, advances or ends.

    Returns:
        What was made, how faithful and how fast it is.

    Raises:
        MissingDependencyError: the onnx extra or onnxruntime is not installed.
        InvalidInputError: an option is outside its range or does not fit the file.
        UnsupportedCheckpointError: the file is no cross-encoder's graph, or the folder lacks what is needed.
        FidelityError: a graph misses its bounds; nothing was written, the message has the figures.
        ArtifactError: the target exists already, or cannot be written.
        ExportError: the import failed otherwise.
    """
    path, folder = (Path(os.path.expanduser(given)) for given in (file, tokenizer_folder))  # noqa: PTH111  see source.py
    read = partial(
        read_onnx_file,
        path,
        folder,
        activation=activation,
        positive_label=positive_label,
        max_length=max_length,
        fetched=fetched,
    )
    own_name = fetched.hub_id if fetched else encodable(folder.resolve().name)
    reader = _OnnxReader(path, own_name, read, precisions, optimize=optimize)
    reader.notes = (_NOT_THE_CHECKPOINT,) if fetched else ()
    options = ArtifactOptions(out, force, verification_pairs, min_kendall_tau, name, external_data_from, progress)
    return make_artifact(reader, options)


class _OnnxReader(ModelReader):
    """Makes graphs of a float32 file or carries another over, and measures against the file as it came."""

    def __init__(
        self,
        path: Path,
        name: str,
        read: Callable[[], OnnxFile],
        precisions: Sequence[Precision] | None,
        *,
        optimize: bool,
    ) -> None:
        self.doing, self.name = f"importing {path}", name
        self._path, self._read, self._precisions, self._optimize = path, read, precisions, optimize

    def require(self) -> None:
        require(IMPORT_MODULES, extra="onnx", purpose="importing an ONNX file")
        self.versions = library_versions()

    def read(self, recorder: Recorder) -> Checkpoint:
        with recorder.step("read the ONNX file") as step:
            self._file = self._read()
            step.size = weight_bytes(self._file.model)
        self.wanted = _wanted(self._file.precision, self._precisions, self._path)
        return self._file.description

    def make(self, assembly: Assembly) -> None:
        assembly.place_tokenizer(self._file.description.tokenizer)
        assembly.queries = fit_queries(assembly.queries, assembly.encoder())
        if self._file.precision == "fp32":
            self._make_from_fp32(assembly)
        else:
            self._carry(assembly)

    def _make_from_fp32(self, assembly: Assembly) -> None:
        model, probe = self._file.model, partial(self._compare, assembly)
        calibration = calibration_feeds(calibration_queries(assembly.queries), assembly.encoder(), input_types(model))
        runner = PassRunner(model, PassContext(self._file.description.architecture, calibration))
        as_it_came = replace(PASS_LISTS["fp32"], passes=())
        if not self._optimize:
            pass_lists = {**PASS_LISTS, "fp32": as_it_came}
            make_graphs(assembly, runner, self.wanted, None, name="self", pass_lists=pass_lists, probe=probe)
            return
        assembly.place_graph(model, as_it_came, ())
        reference = assembly.verify("fp32", None, name="self").single
        assembly.check_bounds()
        make_graphs(assembly, runner, self.wanted, reference, name="self", probe=probe)

    def _carry(self, assembly: Assembly) -> None:
        """Take a graph over as it came: its precision's list without its passes."""
        precision = self._file.precision
        assembly.place_graph(self._file.model, replace(PASS_LISTS[precision], passes=()), ())
        assembly.verify(precision, None, name="self")
        assembly.verification = self._compare(assembly)

    def _compare(self, assembly: Assembly) -> Verification:
        file = self._file
        reference = OnnxReference(file.path, file.description, file.output, file.column)
        return compare_on_probes(
            assembly,
            reference,
            read_limits(file.description),
            precision=file.precision,
            as_reference=reference.as_in_file,
        )


def _wanted(stored: Precision, precisions: Sequence[Precision] | None, file: Path) -> tuple[Precision, ...]:
    wanted = (stored,) if precisions is None else checked_precisions(precisions)
    if stored != "fp32" and wanted != (stored,):
        raise InvalidInputError(
            f"{file} is stored in {stored}, from which only {stored} can be made, given {', '.join(wanted)}; "
            f"import the float32 file for other precisions"
        )
    return wanted
