"""The import of an ONNX file that exists already, without torch: check it, verify it against itself, describe it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.engine.text.documents import encodable
from crossrank.errors import ExportError, InvalidInputError, UnsupportedCheckpointError
from crossrank.export.assembly import Assembly, checked_name, make_graphs, with_segments
from crossrank.export.checkpoint.checkpoint import Checkpoint, read_licence
from crossrank.export.checkpoint.complete_tokenizer import complete_tokenizer, model_max_length, read_tokenizer_settings
from crossrank.export.checkpoint.json_files import read_json
from crossrank.export.checkpoint.scoring_head import read_scoring_head
from crossrank.export.checkpoint.sentence_transformers import read_sentence_transformers
from crossrank.export.checkpoint.transformer_config import (
    read_architecture,
    read_pad_token_id,
    usable_length,
    uses_segment_ids,
)
from crossrank.export.dependencies import IMPORT_MODULES, library_versions, require
from crossrank.export.graph.files import EXTERNAL_DATA_FROM, load_graph, room_hint, weight_bytes
from crossrank.export.graph.interface import check_inputs, input_types
from crossrank.export.graph.output_form import find_output_form, pick_column
from crossrank.export.graph.score_output import ScoreOutput, examine_output
from crossrank.export.graph.stored_precision import stored_precision
from crossrank.export.pass_lists import PASS_LISTS, PassContext, PassRunner, checked_precisions
from crossrank.export.report import ExportReport, Recorder
from crossrank.export.verify.comparison import compare_on_probes, read_limits
from crossrank.export.verify.onnx_reference import OnnxReference
from crossrank.export.verify.pairs import calibration_feeds, calibration_queries, fit_queries, load_queries
from crossrank.export.verify.verification import MIN_KENDALL_TAU, Bounds
from crossrank.models.artifact import sha256_of
from crossrank.models.artifact_writer import ArtifactWriter
from crossrank.models.catalogue import find_entry
from crossrank.models.manifest import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

    from crossrank.export.report import ExportEvent
    from crossrank.models.manifest import Activation, Precision, Verification


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
        positive_label: for two labels, the index or name of the one that means relevant; None to derive it.
        max_length: tokens of a pair; None for the most the configuration allows.
        verification_pairs: JSONL to verify on, a line {"query": ..., "documents": [...]}; None for crossrank's own.
        min_kendall_tau: least mean rank correlation of int8 and fp16 with fp32.
        name: the artifact's name; None for the tokenizer folder's.
        external_data_from: bytes of weights from which a graph's weights go into a file of their own.
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
    file, folder = Path(file).expanduser(), Path(tokenizer_folder).expanduser()
    writer = ArtifactWriter(out, force=force)
    require(IMPORT_MODULES, extra="onnx", purpose="importing an ONNX file")
    recorder = Recorder(progress)
    try:
        with recorder.step("read the ONNX file") as step:
            described = _read(file, folder, activation=activation, positive_label=positive_label, max_length=max_length)
            step.size = weight_bytes(described.model)
        wanted = _wanted(described.precision, precisions, file)
        with writer:
            assembly = Assembly(
                folder=writer.folder,
                checkpoint=described.description,
                name=stated_name or encodable(folder.resolve().name),
                versions=library_versions(with_torch=False),
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
        hint = room_hint(error, writer.target.parent)
        raise ExportError(f"importing {file} into {out} failed, nothing was written: {error}{hint}") from error
    notes = (*described.description.notes, *assembly.notes)
    return ExportReport(artifact, manifest.name, graphs, recorder.steps, assembly.verified, notes)


@dataclass(frozen=True)
class _OnnxFile:
    """An ONNX file as read: where, its graph, what it is stored in, what its output was, what the manifest will say.

    `column` is the one that was picked of two labels that do not exclude each other.
    """

    path: Path
    model: onnx.ModelProto
    precision: Precision
    output: ScoreOutput
    column: int | None
    description: Checkpoint


def _read(
    file: Path,
    folder: Path,
    *,
    activation: Activation | None,
    positive_label: int | str | None,
    max_length: int | None,
) -> _OnnxFile:
    if not folder.is_dir():
        raise UnsupportedCheckpointError(f"there is no tokenizer folder {folder}")
    loaded, beside = load_graph(file)
    check_inputs(loaded)
    precision = stored_precision(loaded)
    output = examine_output(loaded)
    notes = _activation_notes(output, activation)
    form = find_output_form(output.model)
    if form.one_pair_only and precision != "int8":
        raise UnsupportedCheckpointError(
            f"{file} runs one pair and not several, although it declares its batch axis open: a batch of one was fixed "
            f"when it was traced; export the model again with dynamic axes"
        )
    if form.changed:
        notes.append(f"the file's output was given {form.changed}")
    added = read_sentence_transformers(folder, folder.resolve().name, whole_graph=True)
    config = read_json(folder / "config.json")
    settings = read_tokenizer_settings(folder, config, added.tokenizer)
    tokenizer = complete_tokenizer(folder, settings, added)
    known = find_entry(folder.resolve().name)
    inside = output.activation in ("sigmoid", "softmax")
    head = read_scoring_head(
        config,
        added,
        positive_label=_stated_label(output, positive_label),
        activation="sigmoid" if inside else activation,
        usual_activation=known.activation if known else None,
        num_labels=form.labels,
        independent=output.activation == "sigmoid",
    )
    column = head.positive_label if form.labels == 2 and output.activation == "sigmoid" else None  # noqa: PLR2004
    if column is not None:
        pick_column(form.model, column)
        notes.append(f"label {column} was picked of two that each have a sigmoid of their own")
    if output.operator == "Softmax" and form.labels == 1:
        raise UnsupportedCheckpointError(
            f"{file} ends in a Softmax over one label, which is 1 for every pair; export it without"
        )
    pad_token_id = read_pad_token_id(config, settings.values, tokenizer)
    limit = added.max_length if added.max_length is not None else model_max_length(settings)
    description = Checkpoint(
        source=Source(
            kind="onnx",
            id=encodable(file.name),
            weights_sha256={encodable(path.name): sha256_of(path) for path in (file, *beside)},
            licence=read_licence(folder),
        ),
        folder=folder,
        architecture=read_architecture(config),
        num_labels=1 if column is not None else head.num_labels,
        positive_label=0 if column is not None else head.positive_label,
        activation=head.activation,
        max_length=usable_length(config, limit, pad_token_id, max_length),
        pad_token_id=pad_token_id,
        uses_segment_ids=uses_segment_ids(config, settings.values, settings.class_name),
        dtype={"fp32": "float32", "fp16": "float16", "int8": "int8"}[precision],
        tokenizer=tokenizer,
        notes=(*notes, *head.notes, *added.notes),
        sentence_transformers=added,
        config=config,
    )
    return _OnnxFile(file, form.model, precision, output, column, with_segments(description, form.model))


def _activation_notes(output: ScoreOutput, stated: Activation | None) -> list[str]:
    """What to say of an activation inside the file.

    Raises:
        UnsupportedCheckpointError: there is one that cannot be taken off, and the caller did not state that the
            outputs are the scores.
    """
    if output.activation == "none":
        return []
    if output.activation == "other":
        if stated == "identity":
            return [f"the file's scores went through {output.operator} already; they are carried as they are"]
        raise UnsupportedCheckpointError(
            f"the file's output went through {output.operator} after the head, so it is no logit, and another activation "
            f"on top would give other scores than the file's; state activation='identity' (--activation identity) to "
            f"carry its scores as they are, or export the model again without it"
        )
    note = (
        f"the file ends in a {output.operator}, which was taken off: the artifact's logits are what goes into it, and its "
        f"activation gives the file's own scores"
    )
    if stated == "identity":
        note += "; activation 'identity' was not taken, because it would leave them out"
    return [note]


def _stated_label(output: ScoreOutput, stated: int | str | None) -> int | str | None:
    if output.picked is None:
        return stated
    if stated is not None and str(stated) != str(output.picked):
        raise InvalidInputError(
            f"positive_label {stated!r} was given, but the file itself picks label {output.picked} of its softmax; leave "
            f"it out"
        )
    return output.picked


def _wanted(stored: Precision, precisions: Sequence[Precision] | None, file: Path) -> tuple[Precision, ...]:
    wanted = (stored,) if precisions is None else checked_precisions(precisions)
    if stored != "fp32" and wanted != (stored,):
        raise InvalidInputError(
            f"{file} is stored in {stored}, from which only {stored} can be made, given {', '.join(wanted)}; "
            f"import the float32 file for other precisions"
        )
    return wanted


def _make_from_fp32(
    assembly: Assembly, described: _OnnxFile, wanted: Sequence[Precision], bounds: Bounds, *, optimize: bool
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


def _carry(assembly: Assembly, described: _OnnxFile) -> None:
    """Take a graph over as it came: its precision's list without its passes."""
    assembly.place_graph(described.model, replace(PASS_LISTS[described.precision], passes=()), ())
    assembly.verify(described.precision, None, name="self")
    assembly.verification = _compare(assembly, described)


def _compare(assembly: Assembly, described: _OnnxFile) -> Verification:
    reference = OnnxReference(described.path, described.description, described.output, described.column)
    return compare_on_probes(
        assembly,
        reference,
        read_limits(described.description),
        precision=described.precision,
        as_reference=reference.as_in_file,
    )
