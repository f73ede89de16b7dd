"""A `config.json` written by a newer transformers than the one installed: read right, or refused.

A library ignores keys it does not know, so an older transformers takes its defaults where a newer one wrote the setting
under another name, and the model it builds gives other scores without any error.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.json_files import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_FULL, _SLIDING = "full_attention", "sliding_attention"
_FIRST_WITH_ROPE_PARAMETERS = Version("5")
# Keys that change no logit in any version of transformers, and those that crossrank reads itself.
_HARMLESS = frozenset(
    {
        "_attn_implementation_autoset",
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "auto_map",
        "dtype",
        "id2label",
        "label2id",
        "model_type",
        "num_labels",
        "problem_type",
        "sbert_ce_default_activation_function",
        "sentence_transformers",
        "tie_word_embeddings",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)


@dataclass(frozen=True)
class ConfigChanges:
    """What the installed transformers must be given besides the file.

    Attributes:
        values: attributes to set on the configuration it loads.
        notes: what was read in another way than the installed version would, in sentences.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def installed_transformers() -> Version | None:
    """The version of transformers that is installed; None where there is none."""
    try:
        return Version(importlib.metadata.version("transformers"))
    except (importlib.metadata.PackageNotFoundError, InvalidVersion):
        return None


def saved_version(config: Mapping[str, Any]) -> Version | None:
    """The version of transformers that wrote a configuration; None where it does not say."""
    try:
        return Version(str(config.get("transformers_version")))
    except InvalidVersion:
        return None


def changes_for_installed(config: Mapping[str, Any], name: str) -> ConfigChanges:
    """What to change so that the installed transformers computes what the one that saved the checkpoint did.

    Args:
        config: `config.json`.
        name: the checkpoint's, for messages.

    Raises:
        UnsupportedCheckpointError: a key can change scores, and the installed transformers does not read it.
    """
    installed, saved = installed_transformers(), saved_version(config)
    if installed is None or config.get("auto_map"):  # code of the checkpoint's own reads its own keys
        return ConfigChanges()
    values: dict[str, Any] = {}
    if config.get("model_type") == "modernbert" and installed < _FIRST_WITH_ROPE_PARAMETERS:
        values = _modernbert_values(config, name, saved)
    if saved is not None and saved > installed:
        translated = {"rope_parameters", "layer_types"} if config.get("model_type") == "modernbert" else set()
        _refuse_unknown(config, translated, name, saved, installed)
    if not values:
        return ConfigChanges()
    keys = ", ".join(key for key in ("rope_parameters", "layer_types") if config.get(key) is not None)
    return ConfigChanges(
        values,
        (f"config.json has {keys}, which transformers {installed} does not read; they were read in its stead",),
    )


def _modernbert_values(config: Mapping[str, Any], name: str, saved: Version | None) -> dict[str, Any]:
    """Transformers 5 says with `rope_parameters` and `layer_types` what older ones say with four other keys."""
    values: dict[str, Any] = {}
    rope = config.get("rope_parameters")
    if rope is not None:
        thetas = {
            _FULL: ("global_rope_theta", config.get("global_rope_theta", 160_000.0)),
            _SLIDING: ("local_rope_theta", config.get("local_rope_theta", 10_000.0)),
        }
        if not isinstance(rope, dict) or not set(rope) <= set(thetas):
            raise _unreadable("rope_parameters", rope, name, saved)
        for kind, (key, usual) in thetas.items():
            part = rope.get(kind) or {}
            theta = part.get("rope_theta", usual) if isinstance(part, dict) else None
            plain = isinstance(part, dict) and not {
                option for option, value in part.items() if option not in ("rope_type", "rope_theta") and value
            }
            if not plain or part.get("rope_type", "default") != "default" or not isinstance(theta, int | float):
                raise _unreadable("rope_parameters", rope, name, saved)
            values[key] = float(theta)
    if config.get("rope_scaling"):
        raise _unreadable("rope_scaling", config["rope_scaling"], name, saved)
    kinds = config.get("layer_types")
    if kinds is not None:
        values["global_attn_every_n_layers"] = _every_n_layers(kinds, config, name, saved)
    return values


def _every_n_layers(kinds: Any, config: Mapping[str, Any], name: str, saved: Version | None) -> int:
    """The step from one layer of full attention to the next, the one pattern an older transformers can express."""
    layers = config.get("num_hidden_layers")
    if isinstance(kinds, list) and isinstance(layers, int) and len(kinds) == layers:
        for step in range(1, layers + 1):
            if kinds == [_SLIDING if index % step else _FULL for index in range(layers)]:
                return step
    raise _unreadable("layer_types", kinds, name, saved)


def _refuse_unknown(
    config: Mapping[str, Any], translated: set[str], name: str, saved: Version, installed: Version
) -> None:
    from transformers import AutoConfig

    try:
        usual = AutoConfig.for_model(str(config.get("model_type")))
    except (KeyError, ValueError):
        # A model type it does not have at all, which is refused elsewhere, or code of the checkpoint's own.
        return
    known = {*usual.to_dict(), *usual.attribute_map, *translated, *_HARMLESS}
    unknown = sorted(key for key, value in config.items() if key not in known and value is not None)
    if unknown:
        # Some classes read more than their configuration declares, as DeBERTa-v2 reads `position_buckets`.
        source = _source_of_model(usual)
        unknown = [key for key in unknown if not re.search(rf"\b{re.escape(key)}\b", source)]
    if unknown:
        raise UnsupportedCheckpointError(
            f"{name} was saved by transformers {saved}, and transformers {installed}, which is installed, does not "
            f"read {', '.join(unknown)} of its config.json; they may change scores. Install transformers>={saved}, or "
            f"remove the keys if they change nothing"
        )


def _source_of_model(usual: Any) -> str:
    """The code that computes with a configuration."""
    from transformers import AutoModelForSequenceClassification

    mapping = AutoModelForSequenceClassification._model_mapping
    return inspect.getsource(sys.modules[mapping[type(usual)].__module__])


def _unreadable(key: str, value: object, name: str, saved: Version | None) -> UnsupportedCheckpointError:
    version = saved or _FIRST_WITH_ROPE_PARAMETERS
    return UnsupportedCheckpointError(
        f"config.json of {name} has {key} {shown(value)}, which the installed transformers "
        f"{installed_transformers()} cannot compute; install transformers>={version}"
    )
