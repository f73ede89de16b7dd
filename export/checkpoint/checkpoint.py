"""Reading a checkpoint: what it is, whether it is a cross-encoder, and everything the artifact will say of it.

Reading needs neither torch nor transformers: it looks at the JSON files, the licence in the model card and the names
and digests of the weight files. A checkpoint that cannot be exported is refused before its weights are fetched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.complete_tokenizer import (
    complete_tokenizer,
    lower_first,
    model_max_length,
    read_tokenizer_settings,
    refuse_truncation_side,
)
from crossrank.export.checkpoint.decoders import (
    DECODERS,
    MAX_LENGTH,
    answer_head,
    decoder_notes,
    read_decoder,
    read_layout,
)
from crossrank.export.checkpoint.head_modules import HeadModule, read_head_modules, with_labels_of
from crossrank.export.checkpoint.json_files import read_json, shown
from crossrank.export.checkpoint.newer_config import (
    ConfigChanges,
    changes_for_installed,
    installed_transformers,
    saved_version,
)
from crossrank.export.checkpoint.rebuilt_tokenizer import rebuilding_notes
from crossrank.export.checkpoint.remote_code import read_code
from crossrank.export.checkpoint.scoring_head import read_scoring_head
from crossrank.export.checkpoint.sentence_transformers import SentenceTransformers, read_sentence_transformers
from crossrank.export.checkpoint.source import CheckpointSource, fetch_folders, fetch_weights, find_source, read_licence
from crossrank.export.checkpoint.tokenizer import (
    TOKENIZER_NAME,
    check_tokenizer_files,
    load_transformers_tokenizer,
    without_truncation,
)
from crossrank.export.checkpoint.transformer_config import (
    read_architecture,
    read_pad_token_id,
    usable_length,
    uses_segment_ids,
)
from crossrank.export.checkpoint.weights import refuse_adapter, refuse_quantized, weight_digests
from crossrank.models.catalogue import find_entry
from crossrank.models.manifest import Source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tokenizers import Tokenizer

    from crossrank.export.checkpoint.complete_tokenizer import TokenizerSettings
    from crossrank.export.checkpoint.decoders import Decoder
    from crossrank.models.manifest import Activation, Architecture, Template
    from crossrank.models.templates import TemplateName

SUPPORTED = frozenset(
    {"bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "deberta-v2", "modernbert"}
)
"""Model types (`model_type` of config.json) that can be exported."""

_DECODERS = (
    "gpt",
    "llama",
    "qwen",
    "mistral",
    "mixtral",
    "gemma",
    "phi",
    "opt",
    "bloom",
    "falcon",
    "decoder",
)


@dataclass(frozen=True)
class Checkpoint:
    """A cross-encoder checkpoint that can be exported.

    Attributes:
        source: where it came from, with the digests of its weights and its licence, as the manifest keeps it.
        folder: its files on disk.
        architecture: dimensions of its transformer.
        num_labels: outputs of its classification head.
        positive_label: with several labels, the one that means relevant.
        activation: what a logit goes through by default.
        max_length: usable tokens of a pair, special tokens included.
        pad_token_id: id that fills padded batches.
        uses_segment_ids: whether the model distinguishes the two texts by token_type_ids.
        tokenizer: as the library that saved it runs it, truncation and padding taken off.
        label_names: of several labels, in their order; empty where they have none.
        activation_read: whether the activation is what the checkpoint says, and not stated by caller or catalogue.
        length_stated: whether the caller stated `max_length`, and not the checkpoint.
        trust_remote_code: whether code from the checkpoint may run.
        notes: what was assumed because nothing said it.
        sentence_transformers: what sentence-transformers adds to the transformer.
        head: the modules that make the score, where the transformer has no head of its own.
        config_changes: what the installed transformers must be given besides `config.json`.
        config: `config.json` itself.
        causal: whether its tokens attend to those before them only.
        template: the text around query and document; None for the tokenizer's own layout of a pair.
        answers: ids of the token whose logit counts, and of the one whose logit is subtracted; empty where the
            checkpoint has a classifier's head.
    """

    source: Source
    folder: Path
    architecture: Architecture
    num_labels: int
    positive_label: int
    activation: Activation
    max_length: int
    pad_token_id: int
    uses_segment_ids: bool
    tokenizer: Tokenizer
    label_names: tuple[str, ...] = ()
    activation_read: bool = False
    length_stated: bool = False
    trust_remote_code: bool = False
    notes: tuple[str, ...] = ()
    sentence_transformers: SentenceTransformers = field(default_factory=SentenceTransformers)
    head: tuple[HeadModule, ...] = ()
    config_changes: ConfigChanges = field(default_factory=ConfigChanges)
    config: Mapping[str, Any] = field(default_factory=dict)
    causal: bool = False
    template: Template | None = None
    answers: tuple[int, ...] = ()


def read_checkpoint(
    source: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    local_files_only: bool = False,
    activation: Activation | None = None,
    positive_label: int | str | None = None,
    max_length: int | None = None,
    template: TemplateName | None = None,
) -> Checkpoint:
    """Read a checkpoint from a folder or the hub.

    Args:
        source: folder with config.json, tokenizer and weights, or a hub id, which is fetched into the hub's cache.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: allow code that comes with the checkpoint to run.
        local_files_only: never fetch; a hub id must be in the cache.
        activation: "identity" or "sigmoid"; None to take what the checkpoint or the catalogue says.
        positive_label: the index or name of the label that means relevant; None to derive it, of two at most.
        max_length: tokens of a pair; None for the most the checkpoint takes.
        template: the text around query and document that a decoder was trained with; None for what the catalogue says.

    Raises:
        ModelNotFoundError: no such folder or repository.
        UnsupportedCheckpointError: it is no cross-encoder crossrank can export; the message says why.
        InvalidInputError: an argument does not fit the checkpoint.
    """
    where = find_source(source, revision=revision, local_files_only=local_files_only, with_code=trust_remote_code)
    config = read_json(where.folder / "config.json")
    _check_config(where, config)
    known = find_entry(where.id)
    decoder = read_decoder(where.id, config, template, known)
    # Before the head: a model of several modules has its head in one of them. A language model's template is its own
    # code's, whatever sentence-transformers' files say.
    generates = decoder is not None and decoder.generates
    added = SentenceTransformers() if generates else read_sentence_transformers(where.folder, where.id)
    _check_head(where, config, has_modules=bool(added.modules), decoder=decoder)
    code = read_code(
        where,
        config,
        trusted=trust_remote_code,
        has_modules=bool(added.modules),
        local_files_only=local_files_only,
    )
    _check_family(where, config, has_code=bool(config.get("auto_map")) or decoder is not None)
    refuse_adapter(where)
    refuse_quantized(where, config)
    architecture = read_architecture(config)
    modules: tuple[HeadModule, ...] = ()
    if added.modules:
        fetch_folders(where, [module.path for module in added.modules], local_files_only=local_files_only)
        modules = read_head_modules(where.folder, added.modules, architecture.hidden_size, where.id)
    head = answer_head(decoder, activation, positive_label) or read_scoring_head(
        with_labels_of(modules, config),
        added,
        positive_label=positive_label,
        activation=activation,
        usual_activation=known.activation if known else None,
    )
    changes = changes_for_installed(config, where.id)
    settings = read_tokenizer_settings(where.folder, config, added.tokenizer)
    tokenizer = read_tokenizer(where.folder, settings, added, trust_remote_code=trust_remote_code)
    pad_token_id = read_pad_token_id(config, settings.values, tokenizer)
    limit = added.max_length if added.max_length is not None else model_max_length(settings)
    if decoder is not None:
        limit = min(limit, MAX_LENGTH) if isinstance(limit, (int, float)) else MAX_LENGTH
    layout, answers = read_layout(decoder, settings, tokenizer, where.id)
    length = usable_length(config, limit, pad_token_id, max_length, own_setting=added.max_length is not None)
    fetch_weights(where, local_files_only=local_files_only)
    refuse_adapter(where)
    return Checkpoint(
        source=Source(
            kind=where.kind,
            id=where.id,
            revision=where.revision,
            weights_sha256=weight_digests(where.folder, modules),
            code_sha256=code,
            licence=read_licence(where.folder) or (known.licence if known and where.kind == "hub" else ""),
        ),
        folder=where.folder,
        architecture=architecture,
        num_labels=head.num_labels,
        positive_label=head.positive_label,
        activation=head.activation,
        label_names=head.label_names,
        activation_read=head.activation_read,
        max_length=length,
        length_stated=max_length is not None,
        pad_token_id=pad_token_id,
        uses_segment_ids=decoder is None and uses_segment_ids(config, settings.values, settings.class_name),
        tokenizer=tokenizer,
        trust_remote_code=trust_remote_code,
        notes=(
            *(decoder_notes(layout, tokenizer, length, config, stated=template is not None) if decoder else ()),
            *head.notes,
            *added.notes,
            *changes.notes,
            *rebuilding_notes(settings.class_name, saved_version(config), installed_transformers()),
        ),
        sentence_transformers=added,
        head=modules,
        config_changes=changes,
        config=config,
        causal=decoder is not None,
        template=layout,
        answers=answers,
    )


def read_tokenizer(
    folder: Path, settings: TokenizerSettings, added: SentenceTransformers, *, trust_remote_code: bool = False
) -> Tokenizer:
    """A checkpoint's tokenizer as the library that saved it runs it; truncation and padding are taken off.

    Args:
        folder: the checkpoint.
        settings: what lies over its `tokenizer.json`.
        added: what sentence-transformers adds.
        trust_remote_code: allow tokenizer code that comes with the checkpoint to run.

    Raises:
        UnsupportedCheckpointError: there is no tokenizer, or one that crossrank cannot run.
    """
    check_tokenizer_files(folder, trust_remote_code=trust_remote_code)
    if (folder / TOKENIZER_NAME).is_file() and not settings.values.get("auto_map"):
        return complete_tokenizer(folder, settings, added)
    tokenizer = load_transformers_tokenizer(folder, trust_remote_code=trust_remote_code, overrides=added.tokenizer)
    refuse_truncation_side(tokenizer.truncation_side, folder)
    if added.lower_case:
        lower_first(tokenizer.backend_tokenizer)
    return without_truncation(tokenizer.backend_tokenizer)


def _check_config(where: CheckpointSource, config: Mapping[str, Any]) -> None:
    if not config:
        inside = sorted(path.parent.name for path in where.folder.glob("*/config.json"))
        raise UnsupportedCheckpointError(
            f"{where.folder} is no checkpoint: it has no config.json"
            + (f"; there is one in {', '.join(inside[:3])}: name that folder" if inside else "")
        )


def _check_head(
    where: CheckpointSource, config: Mapping[str, Any], *, has_modules: bool, decoder: Decoder | None
) -> None:
    model_type = str(config.get("model_type", ""))
    named, code = config.get("architectures") or [], config.get("auto_map") or {}
    if not isinstance(named, list) or not isinstance(code, dict):
        raise UnsupportedCheckpointError(
            f"config.json of {where.id} has architectures {shown(named)} and auto_map {shown(code)}; "
            f"expected a list of class names, and an object where the checkpoint brings code"
        )
    architectures = [str(name) for name in named]
    if decoder is not None:
        if has_modules:
            raise UnsupportedCheckpointError(
                f"{where.id} is a decoder with a head of several modules (modules.json); crossrank can export decoders "
                f"whose head is their own"
            )
        if code:
            raise UnsupportedCheckpointError(
                f"{where.id} brings Python code of its own ({', '.join(sorted(code))}); a decoder's graph is written "
                f"from the weights of transformers' own classes, so code cannot be followed"
            )
        return
    if not has_modules and not any(name.endswith("ForSequenceClassification") for name in architectures):
        raise UnsupportedCheckpointError(
            f"{where.id} has no classification head: its config.json names {architectures or 'no architecture'}, "
            f"a cross-encoder is a ...ForSequenceClassification"
        )
    if _is_decoder(model_type, architectures):
        raise UnsupportedCheckpointError(
            f"{where.id} is a decoder of the model type {model_type!r}; crossrank can export those of "
            f"{', '.join(sorted(DECODERS))}"
        )


def _check_family(where: CheckpointSource, config: Mapping[str, Any], *, has_code: bool) -> None:
    model_type = str(config.get("model_type", ""))
    if model_type not in SUPPORTED and not has_code:
        raise UnsupportedCheckpointError(
            f"{where.id} is of the model type {model_type!r}, which crossrank cannot export yet; it can: {_listed()}"
        )


def _is_decoder(model_type: str, architectures: list[str]) -> bool:
    words = [model_type.lower(), *(name.lower() for name in architectures)]
    return any(word.startswith(_DECODERS[:-1]) or _DECODERS[-1] in word for word in words)


def _listed() -> str:
    return ", ".join(sorted(SUPPORTED))
