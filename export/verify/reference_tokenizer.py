"""The tokenizer of a checkpoint as its own library loads it, for the reference."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crossrank.export.checkpoint.complete_tokenizer import BACKEND_CLASS, lower_first
from crossrank.export.checkpoint.json_files import read_json
from crossrank.export.checkpoint.quiet import quiet_libraries
from crossrank.export.checkpoint.tokenizer import TOKENIZER_NAME, load_transformers_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from crossrank.export.checkpoint.checkpoint import Checkpoint

_NAMED_TOKENS = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_INPUTS_OF_BACKEND = ["input_ids", "attention_mask"]
"""What transformers 5 makes of a text by default; the class that stands for it here makes segment ids besides."""


def load_reference_tokenizer(checkpoint: Checkpoint) -> tuple[Any, str]:
    """The tokenizer as transformers runs it, and in words how it was loaded.

    Args:
        checkpoint: whose.

    Raises:
        UnsupportedCheckpointError: transformers has none for it.
    """
    import transformers

    folder, overrides = checkpoint.folder, dict(checkpoint.sentence_transformers.tokenizer)
    settings = read_json(folder / "tokenizer_config.json")
    named = settings.get("tokenizer_class")
    installed = isinstance(named, str) and any(hasattr(transformers, name) for name in (named, f"{named}Fast"))
    if (
        isinstance(named, str)
        and not installed
        and not settings.get("auto_map")
        and (folder / TOKENIZER_NAME).is_file()
    ):
        tokenizer, way = _by_itself(folder, settings | overrides), f"{TOKENIZER_NAME} by itself"
        if named != BACKEND_CLASS:
            way += f" (the installed transformers has no {named})"
    else:
        tokenizer = load_transformers_tokenizer(
            folder, trust_remote_code=checkpoint.trust_remote_code, overrides=overrides
        )
        way = "AutoTokenizer"
    if checkpoint.sentence_transformers.lower_case:
        lower_first(tokenizer.backend_tokenizer)
        way += ", text lowered first as sentence-transformers does"
    return tokenizer, way


def _by_itself(folder: Path, settings: dict[str, Any]) -> Any:
    """`tokenizer.json` in the class that all fast tokenizers share."""
    from transformers import PreTrainedTokenizerFast

    content = read_json(folder / TOKENIZER_NAME)
    # This class sets it anew, to False where it is not given.
    prefix_space = (content.get("pre_tokenizer") or {}).get("add_prefix_space", False)
    options = {name: settings[name] for name in _NAMED_TOKENS if isinstance(settings.get(name), str)}
    if isinstance(settings.get("model_input_names"), list):
        options["model_input_names"] = settings["model_input_names"]
    elif settings.get("tokenizer_class") == BACKEND_CLASS:
        options["model_input_names"] = _INPUTS_OF_BACKEND
    with quiet_libraries():
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / TOKENIZER_NAME), add_prefix_space=prefix_space, **options
        )
    listed = settings.get("added_tokens_decoder")
    if isinstance(listed, dict):
        present = tokenizer.get_vocab()
        lacking = [entry for entry in listed.values() if isinstance(entry, dict) and entry["content"] not in present]
        tokenizer.add_tokens([transformers_token(entry) for entry in lacking])
    return tokenizer


def transformers_token(entry: dict[str, Any]) -> Any:
    """An added token of `tokenizer_config.json` as tokenizers' class."""
    from transformers import AddedToken

    return AddedToken(**json.loads(json.dumps(entry)))
