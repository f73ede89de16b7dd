"""The import of an ONNX file that exists already, without torch: check it, verify it against itself, describe it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.engine.text.documents import encodable
from crossrank.errors import ExportError, InvalidInputError
from crossrank.export.assembly import Assembly, checked_name, open_writer
from crossrank.export.dependencies import IMPORT_MODULES, library_versions, require
from crossrank.export.graph.files import EXTERNAL_DATA_FROM, surroundings_hint, weight_bytes
from crossrank.export.graph.interface import input_types
from crossrank.export.graph_making import make_graphs
from crossrank.export.onnx_file import OnnxFile, read_onnx_file
from crossrank.export.pass_lists import PASS_LISTS, PassContext, PassRunner, checked_precisions
from crossrank.export.report import ExportReport, Recorder
from crossrank.export.verify.comparison import compare_on_probes, read_limits
from crossrank.export.verify.onnx_reference import OnnxReference
from crossrank.export.verify.pairs import calibration_feeds, calibration_queries, fit_queries, load_queries
from crossrank.export.verify.verification import MIN_KENDALL_TAU, Bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crossrank.export.hub.ready_graph import ReadyGraph
    from crossrank.export.report import ExportEvent
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
    stated_name = checked_name(name)
    bounds = Bounds(min_kendall_tau=min_kendall_tau)
    queries = load_queries(verification_pairs)
    file, folder = (Path(os.path.expanduser(path)) for path in (file, tokenizer_folder))  # noqa: PTH111  see source.py
    writer = open_writer(out, force=force)
    require(IMPORT_MODULES, extra="onnx", purpose="importing an ONNX file")
    recorder = Recorder(progress)
    try:
        with recorder.step("read the ONNX file") as step:
            described = read_onnx_file(
                file,
                folder,
                activation=activation,
                positive_label=positive_label,
                max_length=max_length,
                fetched=fetched,
            )
            step.size = weight_bytes(described.model)
        wanted = _wanted(described.precision, precisions, file)
        with writer:
            assembly = Assembly(
                folder=writer.folder,
                checkpoint=described.description,
                name=stated_name or (fetched.hub_id if fetched else encodable(folder.resolve().name)),
                versions=library_versions(),
                queries=queries,
                recorder=recorder,
                external_data_from=external_data_from,
            )
            assembly.place_tokenizer(described.description.tokenizer)
            assembly.queries = fit_queries(queries, assembly.encoder())
            if described.precision == "fp32":
                _make_from_fp32(assembly, described, wanted, bounds, optimize=optimize)
            else:
                _carry(assembly, described)
            assembly.check_bounds(bounds)
            if described.precision == "fp32" and "fp32" not in wanted:
                assembly.drop_graph("fp32")
            manifest, graphs = assembly.finish()
            with recorder.step("commit the artifact") as step:
                artifact = writer.commit(manifest)
                step.size = sum(record.size for record in manifest.files)
    except OSError as error:
        hint = surroundings_hint(error, writer.target.parent)
        raise ExportError(f"importing {file} into {out} failed, nothing was written: {error}{hint}") from error
    notes = (*described.description.notes, *assembly.notes)
    if fetched is not None:
        notes = (_NOT_THE_CHECKPOINT, *notes)
    source = described.description.source
    return ExportReport(artifact, manifest.name, graphs, recorder.steps, assembly.verified, notes, source)


def _wanted(stored: Precision, precisions: Sequence[Precision] | None, file: Path) -> tuple[Precision, ...]:
    wanted = (stored,) if precisions is None else checked_precisions(precisions)
    if stored != "fp32" and wanted != (stored,):
        raise InvalidInputError(
            f"{file} is stored in {stored}, from which only {stored} can be made, given {', '.join(wanted)}; "
            f"import the float32 file for other precisions"
        )
    return wanted


def _make_from_fp32(
    assembly: Assembly, described: OnnxFile, wanted: Sequence[Precision], bounds: Bounds, *, optimize: bool
) -> None:
    """Make graphs from a float32 file, measured against the file as it came."""
    calibration = calibration_feeds(
        calibration_queries(assembly.queries), assembly.encoder(), input_types(described.model)
    )
    runner = PassRunner(described.model, PassContext(described.description.architecture, calibration))
    as_it_came = replace(PASS_LISTS["fp32"], passes=())

    def probe() -> Verification:
        return _compare(assembly, described)

    if not optimize:
        pass_lists = {**PASS_LISTS, "fp32": as_it_came}
        make_graphs(assembly, runner, wanted, None, name="self", pass_lists=pass_lists, probe=probe)
        return
    assembly.place_graph(described.model, as_it_came, ())
    reference = assembly.verify("fp32", None, name="self").single
    assembly.check_bounds(bounds)
    make_graphs(assembly, runner, wanted, reference, name="self", probe=probe)


def _carry(assembly: Assembly, described: OnnxFile) -> None:
    """Take a graph over as it came: its precision's list without its passes."""
    assembly.place_graph(described.model, replace(PASS_LISTS[described.precision], passes=()), ())
    assembly.verify(described.precision, None, name="self")
    assembly.verification = _compare(assembly, described)


def _compare(assembly: Assembly, described: OnnxFile) -> Verification:
    reference = OnnxReference(described.path, described.description, described.output, described.column)
    return compare_on_probes(
        assembly,
        reference,
        read_limits(described.description),
        precision=described.precision,
        as_reference=reference.as_in_file,
    )
