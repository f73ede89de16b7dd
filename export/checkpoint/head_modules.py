"""The modules behind the transformer of a CrossEncoder that sentence-transformers saved in several.

From version 6 on a cross-encoder may be a transformer without a head, a pooling and layers that make the score, each
with a folder of its own, as the ettin rerankers are. The rules are those of its modules' `load` and `forward`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.json_files import read_json, shown
from crossrank.export.checkpoint.source import refuse_pointer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MODULE_CONFIG = "config.json"
MODULE_WEIGHTS = "model.safetensors"

Kind: TypeAlias = Literal["Pooling", "Dense", "LayerNorm", "Dropout"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Modules that may follow the transformer."""

ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")
"""Activations of a Dense, by the class's name in torch.nn."""

_LIBRARY = "sentence_transformers."
_EMBEDDING, _SCORES = "sentence_embedding", "scores"
# The form of versions before 5.
_FORMER_MODES = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
_POOLING = ("cls", "mean")
# What `Dense` takes where its configuration names no activation.
_USUAL_ACTIVATION = "torch.nn.modules.activation.Tanh"


@dataclass(frozen=True)
class ModuleFolder:
    """An entry of `modules.json` behind the transformer: its kind and its folder in the checkpoint."""

    kind: Kind
    path: str


@dataclass(frozen=True)
class HeadModule:
    """One step from the token embeddings to the score.

    Attributes:
        kind: "Pooling", "Dense" or "LayerNorm".
        path: its folder in the checkpoint.
        inputs: numbers it takes for a pair.
        outputs: numbers it gives for a pair.
        pooling: of a Pooling, "cls" or "mean".
        bias: of a Dense, whether it has one.
        activation: of a Dense, one of `ACTIVATIONS`.
    """

    kind: Kind
    path: str
    inputs: int
    outputs: int
    pooling: str = ""
    bias: bool = True
    activation: str = "Identity"


def listed_modules(entries: Sequence[Mapping[str, Any]], name: str) -> tuple[ModuleFolder, ...]:
    """The modules behind the transformer, in their order.

    Args:
        entries: what `modules.json` holds.
        name: the checkpoint's, for messages.

    Raises:
        UnsupportedCheckpointError: there is a module that crossrank does not know, which the message names.
    """
    kinds = [str(entry.get("type", "")) for entry in entries]
    shortened = [kind.rpartition(".")[2] for kind in kinds]
    unknown = [
        kind
        for index, (kind, short) in enumerate(zip(kinds, shortened, strict=True))
        if not kind.startswith(_LIBRARY) or short not in (("Transformer",) if index == 0 else KINDS)
    ]
    if unknown:
        how_many = "several modules" if len(kinds) > 1 else "a module"
        raise UnsupportedCheckpointError(
            f"{name} is a sentence-transformers model of {how_many} ({', '.join(shortened)}, by its modules.json); "
            f"crossrank does not know {', '.join(unknown)}: it serves a Transformer with its own classification head, "
            f"or a Transformer followed by {', '.join(KINDS)}"
        )
    paths = [str(entry.get("path", "")) for entry in entries]
    if paths and paths[0]:
        raise UnsupportedCheckpointError(
            f"modules.json of {name} has its Transformer in the folder {paths[0]!r}; expected it beside modules.json"
        )
    for path in paths[1:]:
        if not path or PurePosixPath(path).name != path:
            raise UnsupportedCheckpointError(
                f"modules.json of {name} has a module in {path!r}; the name of a folder expected"
            )
    return tuple(
        ModuleFolder(cast("Kind", kind), path)
        for kind, path in zip(shortened[1:], paths[1:], strict=True)
        if kind != "Dropout"  # which does nothing outside training
    )


def read_head_modules(
    folder: Path, modules: Sequence[ModuleFolder], hidden_size: int, name: str
) -> tuple[HeadModule, ...]:
    """Read the configurations of the modules behind the transformer.

    Args:
        folder: the checkpoint, with the modules' folders fetched.
        modules: what `modules.json` lists.
        hidden_size: numbers that the transformer gives for a token.
        name: the checkpoint's, for messages.

    Raises:
        UnsupportedCheckpointError: a module computes something that crossrank does not, lacks its weights, or does
            not fit the one before it.
    """
    head: list[HeadModule] = []
    size = hidden_size
    for module in modules:
        config = read_json(folder / module.path / MODULE_CONFIG)
        where = f"{module.path}/{MODULE_CONFIG} of {name}"
        if (module.kind == "Pooling") != (not head):
            raise UnsupportedCheckpointError(
                f"modules.json of {name} lists {', '.join(item.kind for item in modules)}; one Pooling, first of "
                f"them, expected"
            )
        reader = {"Pooling": _pooling, "Dense": _dense, "LayerNorm": _layer_norm}[module.kind]
        step = reader(config, module.path, where)
        if step.inputs != size:
            raise UnsupportedCheckpointError(f"{where} takes {step.inputs} numbers a pair, and {size} come to it")
        if module.kind != "Pooling":
            _require_weights(folder / module.path / MODULE_WEIGHTS)
        if module is not modules[-1] and config.get("module_output_name") == _SCORES:
            raise UnsupportedCheckpointError(
                f"{where} gives {_SCORES!r} and is not the last module; {_EMBEDDING!r} expected, which the next one "
                f"takes"
            )
        head.append(step)
        size = step.outputs
    last = modules[-1]
    output = read_json(folder / last.path / MODULE_CONFIG).get("module_output_name")
    if last.kind != "Dense" or output != _SCORES:
        raise UnsupportedCheckpointError(
            f"the last module of {name} is {last.kind} in {last.path} with the output {output!r}; a Dense whose "
            f"module_output_name is {_SCORES!r} expected, which gives the scores"
        )
    return tuple(head)


def with_labels_of(head: Sequence[HeadModule], config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`config.json` with as many labels as the modules give; the transformer's own are of a head it has not."""
    if not head:
        return config
    names = config.get("id2label")
    kept = names if isinstance(names, dict) and len(names) == head[-1].outputs else None
    return {**config, "id2label": kept, "num_labels": head[-1].outputs, "problem_type": None}


def _pooling(config: Mapping[str, Any], path: str, where: str) -> HeadModule:
    former = {key: value for key, value in config.items() if key.startswith("pooling_mode_") and value}
    modes = config.get("pooling_mode") or [_FORMER_MODES.get(key, key) for key in former] or "mean"
    mode = modes[0] if isinstance(modes, list) and len(modes) == 1 else modes
    if mode not in _POOLING:
        raise UnsupportedCheckpointError(
            f"{where} has the pooling_mode {shown(modes)}; crossrank has {' and '.join(_POOLING)}"
        )
    size = _size(config.get("embedding_dimension", config.get("word_embedding_dimension")), where)
    return HeadModule("Pooling", path, size, size, pooling=str(mode))


def _dense(config: Mapping[str, Any], path: str, where: str) -> HeadModule:
    names = (config.get("module_input_name", _EMBEDDING), config.get("module_output_name") or _EMBEDDING)
    if names[0] != _EMBEDDING or names[1] not in (_EMBEDDING, _SCORES):
        raise UnsupportedCheckpointError(
            f"{where} goes from {shown(names[0])} to {shown(names[1])}; from {_EMBEDDING!r} to itself or to "
            f"{_SCORES!r} expected"
        )
    if config.get("use_residual"):
        raise UnsupportedCheckpointError(f"{where} has use_residual, which crossrank does not have")
    named = str(config.get("activation_function", _USUAL_ACTIVATION))
    activation = named.rpartition(".")[2]
    if not named.startswith("torch.nn.") or activation not in ACTIVATIONS:
        raise UnsupportedCheckpointError(
            f"{where} has the activation_function {named!r}; crossrank has {', '.join(ACTIVATIONS)} of torch.nn"
        )
    return HeadModule(
        "Dense",
        path,
        _size(config.get("in_features"), where),
        _size(config.get("out_features"), where),
        bias=config.get("bias", True) is not False,
        activation=activation,
    )


def _layer_norm(config: Mapping[str, Any], path: str, where: str) -> HeadModule:
    size = _size(config.get("dimension"), where)
    return HeadModule("LayerNorm", path, size, size)


def _size(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UnsupportedCheckpointError(f"{where} has the size {shown(value)}; a number expected")
    return value


def _require_weights(path: Path) -> None:
    if not path.is_file():
        raise UnsupportedCheckpointError(
            f"{path} is not there, which has the weights of that module; save the model again with safetensors"
        )
    refuse_pointer(path)
