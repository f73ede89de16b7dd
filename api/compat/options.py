"""The options of sentence-transformers' constructor: what they mean here, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crossrank.errors import InvalidInputError
from crossrank.models.catalogue import find_entry
from crossrank.models.embedded import EMBEDDED_MODELS
from crossrank.resolve import absolute_model

if TYPE_CHECKING:
    from crossrank.models.manifest import PrecisionChoice, ProviderChoice

ORGANIZATION = "cross-encoder"
"""Where sentence-transformers looks for a name without an owner."""

_REASONS = {
    "modules": "crossrank scores with an exported graph, not with torch modules; give a folder or a hub id",
    "cache_folder": "set HF_HOME for what is downloaded, and CROSSRANK_CACHE for what is exported of it",
    "token": "set the environment variable HF_TOKEN",
    "model_card_data": "nothing is trained or saved here",
    "keep_in_fp32_modules": "`precision` says in what a graph computes; 'fp32' is the default",
    "config_kwargs": "a checkpoint is read as it is; save it with the other configuration",
    "processor_kwargs": "a tokenizer is read as it is saved; `max_length` is an option of its own",
}


class Device(NamedTuple):
    """What scores.

    Attributes:
        provider: as `Reranker` calls it.
        devices: numbers of GPUs; None takes the first.
    """

    provider: ProviderChoice
    devices: tuple[int, ...] | None


def refuse(**options: object) -> None:
    """Refuse options that would change something here and cannot.

    Raises:
        InvalidInputError: one of them was given; the message says what to do instead.
    """
    for name, value in options.items():
        if value is not None and value != {}:
            raise InvalidInputError(f"{name}={value!r:.100}: not supported by crossrank.compat; {_REASONS[name]}")


def refuse_model_options(model_kwargs: Mapping[str, Any] | None, precision: PrecisionChoice) -> None:
    """Refuse options of the torch model, but for a data type that is computed in anyway.

    Raises:
        InvalidInputError: there are others, or it is no mapping.
    """
    if model_kwargs is not None and not isinstance(model_kwargs, Mapping):
        raise InvalidInputError(f"model_kwargs={model_kwargs!r:.100}: a mapping of names to values expected")
    for name, value in (model_kwargs or {}).items():
        stated = name in ("dtype", "torch_dtype") and str(value).removeprefix("torch.") == "float32"
        if not (stated and precision == "fp32"):
            raise InvalidInputError(
                f"model_kwargs={{{name!r}: {value!r:.100}}}: not supported by crossrank.compat, which runs no torch "
                f"model; precision='fp32', 'fp16' or 'int8' says in what a graph computes, here {precision!r}"
            )


def read_device(device: object) -> Device:
    """Which processor scores: 'cpu', 'cuda', 'cuda:1', also as `torch.device`; None takes CUDA where it works.

    Raises:
        InvalidInputError: it is another.
    """
    if device is None:
        return Device("auto", None)
    kind, colon, number = str(device).partition(":")
    if kind == "cpu" and not colon:
        return Device("cpu", None)
    if kind == "cuda" and (number.isdecimal() or not colon):
        return Device("cuda", (int(number),) if colon else None)
    raise InvalidInputError(f"device={device!r:.100}: 'cpu', 'cuda' or 'cuda:0' expected; crossrank runs on no other")


def find_model(model_name_or_path: str | Path | None, *, local_files_only: bool) -> str | Path:
    """The model's name as `Reranker` takes it.

    Raises:
        InvalidInputError: there is none, or only local files are wanted of a hub repository.
        ModelNotFoundError: it is a path, and no folder is there.
    """
    if model_name_or_path is None:
        raise InvalidInputError("model_name_or_path is None: a checkpoint folder, a hub id or 'default' expected")
    model = absolute_model(model_name_or_path)
    if isinstance(model, Path) or model in EMBEDDED_MODELS:
        return model
    if local_files_only:
        raise InvalidInputError(
            f"local_files_only=True of {model!r}: set the environment variable HF_HUB_OFFLINE=1 instead; a model that "
            "was exported once is taken from crossrank's cache without asking the hub"
        )
    return f"{ORGANIZATION}/{model}" if "/" not in model and find_entry(model) is None else model


def check_backend(backend: object) -> None:
    """Refuse backends that are not there: 'torch' is the default, and its scores are what is computed.

    Raises:
        InvalidInputError: it is another.
    """
    if backend not in ("torch", "onnx"):
        raise InvalidInputError(
            f"backend={backend!r:.100}: 'torch' or 'onnx' expected; crossrank scores with onnxruntime either way"
        )


def check_activation_code(activation_fn: object, *, trust_remote_code: bool) -> None:
    """Refuse to run a checkpoint's code where its activation might be code as well, which is not run.

    Raises:
        InvalidInputError: code is trusted, and no activation is stated.
    """
    if trust_remote_code and activation_fn is None:
        raise InvalidInputError(
            "trust_remote_code=True without activation_fn: the checkpoint might name an activation of its own code, "
            "which crossrank does not run; state activation_fn, such as torch.nn.Sigmoid()"
        )


def check_prompts(prompts: object) -> dict[str, str]:
    """Prompts by name.

    Raises:
        InvalidInputError: they are no mapping of strings.
    """
    if prompts is None:
        return {}
    if not isinstance(prompts, Mapping) or not all(
        isinstance(name, str) and isinstance(text, str) for name, text in prompts.items()
    ):
        raise InvalidInputError(f"prompts={prompts!r:.100}: a mapping of names to texts expected")
    return dict(prompts)
