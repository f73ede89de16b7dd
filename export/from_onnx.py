"""The import of an ONNX file that exists already, without torch: check it, verify it against itself, describe it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.engine.text.documents import encodable
from crossrank.errors import ExportError, InvalidInputError, UnsupportedCheckpointError
from crossrank.export.assembly import Assembly, checked_name, make_graphs, with_segments
from crossrank.export.checkpoint.checkpoint import Checkpoint, read_licence, read_tokenizer_config
from crossrank.export.checkpoint.scoring_head import read_scoring_head
from crossrank.export.checkpoint.tokenizer import TOKENIZER_NAME, read_tokenizer_file
from crossrank.export.checkpoint.transformer_config import (
    read_architecture,
    read_json,
    read_pad_token_id,
    usable_length,
    uses_segment_ids,
)
from crossrank.export.dependencies import IMPORT_MODULES, library_versions, require
from crossrank.export.graph.files import EXTERNAL_DATA_FROM, external_files, load_graph, room_hint, weight_bytes
from crossrank.export.graph.interface import check_interface, input_types, label_count, run_label_count
from crossrank.export.graph.stored_precision import stored_precision
from crossrank.export.pass_lists import PASS_LISTS, PassContext, PassRunner, checked_precisions
from crossrank.export.report import ExportReport, Recorder
from crossrank.export.verify.pairs import calibration_feeds, calibration_queries, fit_queries, load_queries
from crossrank.export.verify.verification import MIN_KENDALL_TAU, Bounds
from crossrank.models.artifact import sha256_of
from crossrank.models.artifact_writer import ArtifactWriter
from crossrank.models.catalogue import find_entry
from crossrank.models.manifest import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx
    from tokenizers import Tokenizer

    from crossrank.export.report import ExportEvent
    from crossrank.models.manifest import Activation, Precision


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
            found = _read(file, folder, activation=activation, positive_label=positive_label, max_length=max_length)
            step.size = weight_bytes(found.model)
        wanted = _wanted(found.precision, precisions, file)
        with writer:
            assembly = Assembly(
                folder=writer.folder,
                checkpoint=found.description,
                name=stated_name or encodable(folder.resolve().name),
                versions=library_versions(with_torch=False),
                queries=queries,
                recorder=recorder,
                external_data_from=external_data_from,
            )
            assembly.place_tokenizer(found.tokenizer)
            assembly.queries = fit_queries(queries, assembly.encoder())
            if found.precision == "fp32":
                _make_from_fp32(assembly, found, wanted, bounds, optimize=optimize)
            else:
                _carry(assembly, found)
            assembly.check_bounds(bounds)
            if found.precision == "fp32" and "fp32" not in wanted:
                assembly.drop_graph("fp32")
            manifest, graphs = assembly.finish()
            with recorder.step("commit the artifact") as step:
                artifact = writer.commit(manifest)
                step.size = sum(record.size for record in manifest.files)
    except OSError as error:
        hint = room_hint(error, writer.target.parent)
        raise ExportError(f"importing {file} into {out} failed, nothing was written: {error}{hint}") from error
    notes = (*found.description.notes, *assembly.notes)
    return ExportReport(artifact, manifest.name, graphs, recorder.steps, notes)


@dataclass(frozen=True)
class _OnnxFile:
    """An ONNX file as read: its graph, what it is stored in, its tokenizer, and what the manifest will say."""

    model: onnx.ModelProto
    precision: Precision
    tokenizer: Tokenizer
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
    model = load_graph(file)
    check_interface(model)
    config = read_json(folder / "config.json")
    tokenizer_config = read_tokenizer_config(folder)
    tokenizer = read_tokenizer_file(folder / TOKENIZER_NAME)
    known = find_entry(folder.resolve().name)
    head = read_scoring_head(
        config,
        read_json(folder / "config_sentence_transformers.json"),
        positive_label=positive_label,
        activation=activation,
        usual_activation=known.activation if known else None,
        num_labels=label_count(model) or run_label_count(file),
    )
    pad_token_id = read_pad_token_id(config, tokenizer_config, tokenizer)
    precision = stored_precision(model)
    description = Checkpoint(
        source=Source(
            kind="onnx",
            id=encodable(file.name),
            weights_sha256={encodable(path.name): sha256_of(path) for path in (file, *external_files(file))},
            licence=read_licence(folder),
        ),
        folder=folder,
        architecture=read_architecture(config),
        num_labels=head.num_labels,
        positive_label=head.positive_label,
        activation=head.activation,
        max_length=usable_length(config, tokenizer_config, pad_token_id, max_length),
        pad_token_id=pad_token_id,
        uses_segment_ids=uses_segment_ids(config, tokenizer_config),
        dtype={"fp32": "float32", "fp16": "float16", "int8": "int8"}[precision],
        notes=head.notes,
    )
    return _OnnxFile(model, precision, tokenizer, with_segments(description, model))


def _wanted(stored: Precision, precisions: Sequence[Precision] | None, file: Path) -> tuple[Precision, ...]:
    wanted = (stored,) if precisions is None else checked_precisions(precisions)
    if stored != "fp32" and wanted != (stored,):
        raise InvalidInputError(
            f"{file} is stored in {stored}, from which only {stored} can be made, given {', '.join(wanted)}; "
            f"import the float32 file for other precisions"
        )
    return wanted


def _make_from_fp32(
    assembly: Assembly, found: _OnnxFile, wanted: Sequence[Precision], bounds: Bounds, *, optimize: bool
) -> None:
    """Make graphs from a float32 file, measured against the file as it came."""
    calibration = calibration_feeds(calibration_queries(assembly.queries), assembly.encoder(), input_types(found.model))
    runner = PassRunner(found.model, PassContext(found.description.architecture, calibration))
    as_it_came = replace(PASS_LISTS["fp32"], passes=())
    if not optimize:
        make_graphs(assembly, runner, wanted, None, name="self", pass_lists={**PASS_LISTS, "fp32": as_it_came})
        return
    assembly.place_graph(found.model, as_it_came, ())
    reference = assembly.verify("fp32", None, name="self").single
    assembly.check_bounds(bounds)
    make_graphs(assembly, runner, wanted, reference, name="self")


def _carry(assembly: Assembly, found: _OnnxFile) -> None:
    """Take a graph over as it came: its precision's list without its passes."""
    assembly.place_graph(found.model, replace(PASS_LISTS[found.precision], passes=()), ())
    assembly.verify(found.precision, None, name="self")
