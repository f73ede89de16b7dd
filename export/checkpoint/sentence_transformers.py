"""What sentence-transformers' CrossEncoder would read of a checkpoint besides its transformer.

The rules are those of sentence-transformers 6.2 (`CrossEncoder`, `Transformer.load`, `Transformer.preprocess`), which
older versions' files go through as well: where there is no `modules.json`, or one of another model's kind, it reads
nothing but `config.json`, the tokenizer and the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.head_modules import ModuleFolder, listed_modules
from crossrank.export.checkpoint.json_files import read_json, read_json_value, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
TRANSFORMER = "sentence_bert_config.json"
_FORMER_NAMES = tuple(f"sentence_{name}_config.json" for name in ("roberta", "distilbert", "camembert", "xlm-roberta"))
FILES = (MODULES, SETTINGS, TRANSFORMER, *_FORMER_NAMES)
"""Every file that is read here, besides `config.json`."""

# By whether the transformer has a head of its own: task, output of its `forward`, and what that is called.
_WITH_HEAD = ("sequence-classification", "logits", "scores")
_WITHOUT_HEAD = ("feature-extraction", "last_hidden_state", "token_embeddings")
_HARMLESS = frozenset(
    {
        "transformer_task",
        "modality_config",
        "module_output_name",
        "unpad_inputs",
        # Of models that encode query and document apart: `CrossEncoder.predict` names no task, so they never apply.
        "query_length",
        "document_length",
        "query_expansion",
        "model_name_or_path",
        "tokenizer_name_or_path",
        "cache_dir",
        "backend",
    }
)
_READ = frozenset({"max_seq_length", "do_lower_case", "processing_kwargs"})
_TOKENIZER_OPTIONS = ("tokenizer_args", "tokenizer_kwargs", "processor_kwargs")
_MODEL_OPTIONS = ("model_args", "model_kwargs")
# How a model is loaded, not what it computes: crossrank loads in float32, whatever the implementation.
_HARMLESS_MODEL_OPTIONS = frozenset(
    {"attn_implementation", "dtype", "torch_dtype", "device_map", "low_cpu_mem_usage", "use_safetensors", "revision"}
)
# Padding is masked; what is returned is for the caller.
_HARMLESS_CALL_OPTIONS = frozenset(
    {"padding", "pad_to_multiple_of", "padding_side", "return_tensors", "return_attention_mask", "return_length"}
    | {"verbose", "return_offsets_mapping", "return_special_tokens_mask"}
)
_CUTS_DOCUMENT = "only_second"
_CUTS_LONGER = ("longest_first", True, None)


@dataclass(frozen=True)
class SentenceTransformers:
    """What sentence-transformers adds to a checkpoint.

    Attributes:
        applies: whether the checkpoint is a CrossEncoder of sentence-transformers, in any of its forms.
        has_modules: whether it was saved as a CrossEncoder with modules, whose settings files count.
        activation: dotted path of the activation it names; None where it names none.
        max_length: tokens of a pair it cuts to, in the place of the tokenizer's own limit; None where it states none.
        lower_case: whether text is lowered before the tokenizer's own normalizer.
        tokenizer: settings that go over `tokenizer_config.json`.
        cuts_longer_text: whether it cuts whichever of query and document is longer, instead of the document alone.
        modules: what follows a transformer without a head, in its order; empty where it has one.
        notes: what a user should know, in sentences.
    """

    applies: bool = False
    has_modules: bool = False
    activation: str | None = None
    max_length: int | None = None
    lower_case: bool = False
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    cuts_longer_text: bool = False
    modules: tuple[ModuleFolder, ...] = ()
    notes: tuple[str, ...] = ()


def read_sentence_transformers(folder: Path, name: str, *, whole_graph: bool = False) -> SentenceTransformers:
    """Read `modules.json`, `config_sentence_transformers.json` and `sentence_bert_config.json`.

    Args:
        folder: the checkpoint.
        name: the checkpoint's, for messages.
        whole_graph: whether the scores come of an ONNX file, in which all modules are already.

    Raises:
        UnsupportedCheckpointError: sentence-transformers would compute something around the transformer that
            crossrank does not, or a file has another shape than it expects.
    """
    entries = [] if whole_graph else _read_modules(folder)
    modules = listed_modules(entries, name)
    settings = read_json(folder / SETTINGS)
    _refuse_prompt(settings, name)
    activation = settings.get("activation_fn")
    activation = str(activation) if activation is not None else None
    has_modules = bool(entries) or (whole_graph and (folder / MODULES).is_file())
    saved_as_modules = has_modules and settings.get("model_type") == "CrossEncoder"
    if modules and not saved_as_modules:
        raise UnsupportedCheckpointError(
            f"{name} is a sentence-transformers model of several modules (Transformer, "
            f"{', '.join(item.kind for item in modules)}) and no CrossEncoder: its {SETTINGS} has the model_type "
            f"{shown(settings.get('model_type'))}; a model that embeds query and document apart gives no scores"
        )
    if not saved_as_modules:
        config = read_json(folder / "config.json")
        applies = bool(has_modules or settings) or any(
            key in config for key in ("sentence_transformers", "sbert_ce_default_activation_function")
        )
        return SentenceTransformers(
            applies=applies, activation=activation, cuts_longer_text=applies, notes=_unread(folder)
        )
    transformer = _read_transformer(folder)
    if not whole_graph:
        _check_task(transformer, name, _WITHOUT_HEAD if modules else _WITH_HEAD)
        _refuse_unknown(transformer, name)
    call = _call_options(transformer, name)
    tokenizer = _tokenizer_options(transformer, name)
    stated = (call.get("max_length"), tokenizer.get("model_max_length"), transformer.get("max_seq_length"))
    length = next((value for value in stated if value is not None), None)
    if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 1):
        raise UnsupportedCheckpointError(
            f"{TRANSFORMER} of {name} cuts pairs to {shown(length)} tokens; a number of tokens was expected"
        )
    return SentenceTransformers(
        applies=True,
        has_modules=True,
        activation=activation,
        max_length=length,
        lower_case=transformer.get("do_lower_case") is True,
        tokenizer=tokenizer,
        cuts_longer_text=call.get("truncation", True) != _CUTS_DOCUMENT,
        modules=modules,
    )


def _read_modules(folder: Path) -> list[dict[str, Any]]:
    path = folder / MODULES
    modules = read_json_value(path) if path.is_file() else []
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise UnsupportedCheckpointError(
            f"{path} holds {shown(modules)}; expected a list of objects, one a module of sentence-transformers"
        )
    return modules


def _refuse_prompt(settings: Mapping[str, Any], name: str) -> None:
    prompts = settings.get("prompts") or {}
    default = settings.get("default_prompt_name")
    if not isinstance(prompts, dict) or not isinstance(default, str | None):
        raise UnsupportedCheckpointError(
            f"{SETTINGS} of {name} has prompts {shown(prompts)} and default_prompt_name "
            f"{shown(default)}; expected an object of prompts by name, and a name or null"
        )
    prompt = prompts.get(default)
    if prompt:
        raise UnsupportedCheckpointError(
            f"{name} puts the prompt {prompt!r} before every query by default, which crossrank does not do yet"
        )


def _unread(folder: Path) -> tuple[str, ...]:
    """Say so where a file states a limit that sentence-transformers does not read for this checkpoint."""
    length = _read_transformer(folder).get("max_seq_length")
    if length is None:
        return ()
    note = (
        f"{TRANSFORMER} says max_seq_length {length}, which sentence-transformers' CrossEncoder does not read for this "
        f"checkpoint, and crossrank does not either; state max_length (--max-length) where it was trained so"
    )
    return (note,)


def _read_transformer(folder: Path) -> dict[str, Any]:
    contents = (read_json(folder / name) for name in (TRANSFORMER, *_FORMER_NAMES))
    return next((content for content in contents if content), {})


def _check_task(transformer: Mapping[str, Any], name: str, expected: tuple[str, str, str]) -> None:
    task = transformer.get("transformer_task", "feature-extraction")
    wanted_task, wanted_output, wanted_name = expected
    if task != wanted_task:
        raise UnsupportedCheckpointError(
            f"{TRANSFORMER} of {name} has the transformer_task {task!r}; a cross-encoder's of these modules "
            f"({MODULES}) is {wanted_task!r}"
        )
    modalities = transformer.get("modality_config", {"text": {}})
    output = transformer.get("module_output_name", wanted_name)
    text = modalities.get("text", {}) if isinstance(modalities, dict) else None
    if (
        not isinstance(text, dict)
        or set(modalities) != {"text"}
        or text.get("method", "forward") != "forward"
        or text.get("method_output_name", wanted_output) != wanted_output
        or output != wanted_name
    ):
        raise UnsupportedCheckpointError(
            f"{TRANSFORMER} of {name} has modality_config {shown(modalities)} and module_output_name {shown(output)}; "
            f"crossrank serves text alone, and expected its {wanted_output} as {wanted_name}"
        )


def _refuse_unknown(transformer: Mapping[str, Any], name: str) -> None:
    known = _HARMLESS | _READ | {*_TOKENIZER_OPTIONS, *_MODEL_OPTIONS}
    unknown = sorted(key for key, value in transformer.items() if key not in known and value not in (None, {}, []))
    for options in _MODEL_OPTIONS:
        given = transformer.get(options) or {}
        unknown += [f"{options}.{key}" for key in given if key not in _HARMLESS_MODEL_OPTIONS]
    if unknown:
        raise UnsupportedCheckpointError(
            f"{TRANSFORMER} of {name} sets {', '.join(unknown)}, which can change scores and which crossrank does not "
            f"read; export a checkpoint saved without"
        )


def _call_options(transformer: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What every call of the tokenizer is given; `common` goes over `text`, as in sentence-transformers."""
    options = transformer.get("processing_kwargs") or {}
    if not isinstance(options, dict) or not all(isinstance(value, dict) for value in options.values()):
        raise UnsupportedCheckpointError(
            f"{TRANSFORMER} of {name} has processing_kwargs {shown(options)}; expected an object of objects"
        )
    call = {**options.get("text", {}), **options.get("common", {})}
    unknown = sorted(set(call) - _HARMLESS_CALL_OPTIONS - {"max_length", "truncation", "add_special_tokens"})
    if call.get("add_special_tokens", True) is not True:
        unknown.append("add_special_tokens")
    if unknown:
        raise UnsupportedCheckpointError(
            f"{TRANSFORMER} of {name} gives the tokenizer {', '.join(unknown)} (processing_kwargs), which can change "
            f"scores and which crossrank does not do"
        )
    if call.get("truncation", True) not in (*_CUTS_LONGER, _CUTS_DOCUMENT):
        raise UnsupportedCheckpointError(
            f"{TRANSFORMER} of {name} has the truncation {call['truncation']!r} (processing_kwargs); crossrank cuts "
            f"the document where a pair is too long ({_CUTS_DOCUMENT!r})"
        )
    return call


def _tokenizer_options(transformer: Mapping[str, Any], name: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for options in _TOKENIZER_OPTIONS:
        given = transformer.get(options) or {}
        if not isinstance(given, dict):
            raise UnsupportedCheckpointError(
                f"{TRANSFORMER} of {name} has {options} {shown(given)}; expected an object"
            )
        merged |= given
    merged.pop("trust_remote_code", None)
    return merged
