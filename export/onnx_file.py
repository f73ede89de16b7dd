"""An ONNX file that exists already: what it takes, what it gives, what its weights are, and the tokenizer beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.engine.text.documents import encodable
from crossrank.errors import InvalidInputError, UnsupportedCheckpointError
from crossrank.export.assembly import with_segments
from crossrank.export.checkpoint.checkpoint import Checkpoint
from crossrank.export.checkpoint.complete_tokenizer import complete_tokenizer, model_max_length, read_tokenizer_settings
from crossrank.export.checkpoint.decoders import refuse_decoder_file
from crossrank.export.checkpoint.json_files import read_json
from crossrank.export.checkpoint.newer_config import installed_transformers, saved_version
from crossrank.export.checkpoint.rebuilt_tokenizer import rebuilding_notes
from crossrank.export.checkpoint.scoring_head import read_label_names, read_scoring_head
from crossrank.export.checkpoint.sentence_transformers import read_sentence_transformers
from crossrank.export.checkpoint.source import read_licence
from crossrank.export.checkpoint.transformer_config import (
    read_architecture,
    read_pad_token_id,
    usable_length,
    uses_segment_ids,
)
from crossrank.export.graph.files import load_graph
from crossrank.export.graph.interface import check_inputs
from crossrank.export.graph.output_form import find_output_form, pick_column
from crossrank.export.graph.score_output import ScoreOutput, examine_output
from crossrank.export.graph.stored_precision import stored_precision
from crossrank.models.artifact import sha256_of
from crossrank.models.catalogue import find_entry
from crossrank.models.labels import label_index
from crossrank.models.manifest import Source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx

    from crossrank.export.checkpoint.complete_tokenizer import TokenizerSettings
    from crossrank.export.hub.ready_graph import ReadyGraph
    from crossrank.models.catalogue import CatalogueEntry
    from crossrank.models.manifest import Activation, Precision


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that was examined.

    Attributes:
        path: where it is.
        model: its graph, whose output is float32 logits [batch, labels] now.
        precision: what it is stored in.
        output: what its output was.
        column: the one that was picked of several labels that do not exclude each other; None where none was.
        description: what the manifest will say of it.
    """

    path: Path
    model: onnx.ModelProto
    precision: Precision
    output: ScoreOutput
    column: int | None
    description: Checkpoint


def read_onnx_file(
    file: Path,
    folder: Path,
    *,
    activation: Activation | None,
    positive_label: int | str | None,
    max_length: int | None,
    fetched: ReadyGraph | None = None,
) -> OnnxFile:
    """Read an ONNX file and the tokenizer folder that belongs to it.

    Args:
        file: the graph.
        folder: its tokenizer, and its configuration where there is one.
        activation: "identity" or "sigmoid"; None to derive it.
        positive_label: the index or name of the label that means relevant; None to derive it, of two at most.
        max_length: tokens of a pair; None for the most the configuration allows.
        fetched: what the file and the folder are of, where they came from a hub.

    Raises:
        UnsupportedCheckpointError: the file is no cross-encoder's graph, or the folder lacks what is needed.
        InvalidInputError: an argument does not fit the file.
    """
    if not folder.is_dir():
        raise UnsupportedCheckpointError(f"there is no tokenizer folder {folder}")
    config = read_json(folder / "config.json")
    refuse_decoder_file(file, config)
    loaded, beside = load_graph(file)
    loaded = _with_functions_inlined(loaded)
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
    name = fetched.hub_id if fetched is not None else folder.resolve().name
    added = read_sentence_transformers(folder, name, whole_graph=True)
    settings = read_tokenizer_settings(folder, config, added.tokenizer)
    _refuse_tokenizer_code(folder, settings)
    tokenizer = complete_tokenizer(folder, settings, added)
    known = find_entry(name)
    inside = output.activation in ("sigmoid", "softmax")
    head = read_scoring_head(
        config,
        added,
        positive_label=_stated_label(output, positive_label, read_label_names(config), form.labels),
        activation="sigmoid" if inside else activation,
        usual_activation=known.activation if known else None,
        num_labels=form.labels,
        independent=output.activation == "sigmoid",
    )
    column = head.positive_label if form.labels > 1 and output.activation == "sigmoid" else None
    if column is not None:
        pick_column(form.model, column)
        notes.append(f"label {column} was picked of {form.labels} that each have a sigmoid of their own")
    if output.picked is not None and form.labels > 2:  # noqa: PLR2004
        raise UnsupportedCheckpointError(
            f"{file} picks one of the {form.labels} columns of its softmax itself; export it with all of them and name "
            f"the label with positive_label (--positive-label)"
        )
    if output.activation == "softmax" and form.labels == 1:
        value = 1 if output.operator == "Softmax" else 0
        raise UnsupportedCheckpointError(
            f"{file} ends in a {output.operator} over one label, which is {value} for every pair; export it without"
        )
    pad_token_id = read_pad_token_id(config, settings.values, tokenizer)
    limit = added.max_length if added.max_length is not None else model_max_length(settings)
    description = Checkpoint(
        source=_source(file, beside, read_licence(folder), known, fetched),
        folder=folder,
        architecture=read_architecture(config),
        num_labels=1 if column is not None else head.num_labels,
        positive_label=0 if column is not None else head.positive_label,
        activation=head.activation,
        label_names=() if column is not None else head.label_names,
        max_length=usable_length(config, limit, pad_token_id, max_length, own_setting=added.max_length is not None),
        pad_token_id=pad_token_id,
        uses_segment_ids=uses_segment_ids(config, settings.values, settings.class_name),
        tokenizer=tokenizer,
        notes=(
            *(*notes, *head.notes, *added.notes),
            *rebuilding_notes(settings.class_name, saved_version(config), installed_transformers()),
        ),
        sentence_transformers=added,
        config=config,
    )
    return OnnxFile(file, form.model, precision, output, column, with_segments(description, form.model))


def _source(
    file: Path, beside: list[Path], licence: str, known: CatalogueEntry | None, fetched: ReadyGraph | None
) -> Source:
    if fetched is not None:
        return Source(
            kind="onnx",
            id=fetched.hub_id,
            revision=fetched.commit,
            weights_sha256=dict(fetched.weights_sha256),
            files_sha256=dict(fetched.files_sha256),
            licence=licence or (known.licence if known else ""),
        )
    return Source(
        kind="onnx",
        id=encodable(file.name),
        weights_sha256={encodable(path.name): sha256_of(path) for path in (file, *beside)},
        licence=licence,
    )


def _with_functions_inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the bodies of its own functions in the place of their calls, where its last operator may be."""
    if not model.functions:
        return model
    import onnx.inliner

    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:
        # Whatever onnx's C++ side raises, and protobuf's limit of 2 GiB.
        raise UnsupportedCheckpointError(
            f"the graph calls functions of its own, which onnx cannot inline: {error}; export it without functions"
        ) from error


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
            f"the file's output went through {output.operator} after the head, so it is no logit, and another "
            f"activation on top would give other scores than the file's; state activation='identity' (--activation "
            f"identity) to carry its scores as they are, or export the model again without it"
        )
    logarithm = output.operator == "LogSoftmax"
    gives = "the probability whose logarithm the file gives" if logarithm else "the file's own scores"
    note = (
        f"the file ends in a {output.operator}, which was taken off: the artifact's logits are what goes into it, and "
        f"its activation gives {gives}"
    )
    if stated == "identity":
        note += "; activation 'identity' was not taken, because it would leave them out"
    return [note]


def _refuse_tokenizer_code(folder: Path, settings: TokenizerSettings) -> None:
    if settings.values.get("auto_map"):
        raise UnsupportedCheckpointError(
            f"the tokenizer of {folder} is Python code of its own, which an import does not run; export the checkpoint "
            f"with trust_remote_code=True (--trust-remote-code), or take auto_map out of tokenizer_config.json where "
            f"tokenizer.json alone reads texts as that code does"
        )


def _stated_label(
    output: ScoreOutput, stated: int | str | None, names: Mapping[int, str], labels: int
) -> int | str | None:
    if output.picked is None:
        return stated
    found = None if stated is None else label_index(stated, names, labels)
    if stated is not None and found is None:
        return stated  # whoever looks it up next names the labels there are
    if found not in (None, output.picked):
        raise InvalidInputError(
            f"positive_label {stated!r} was given, but the file itself picks label {output.picked} of its softmax; "
            f"leave it out"
        )
    return output.picked
