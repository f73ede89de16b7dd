"""What a checkpoint's `config.json` and tokenizer settings say: dimensions, usable length, padding, segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.errors import InvalidInputError, UnsupportedCheckpointError
from crossrank.models.manifest import Architecture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenizers import Tokenizer

MIN_LENGTH = 8
"""Fewest tokens a pair may have to be left with; less holds no text beside the special tokens."""

_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})
# Some tokenizers say "no limit" with a huge number (transformers uses 10**30).
_SANE_LENGTH = 1_000_000
# The names a configuration may use for one thing; DistilBERT has its own.
_DIMENSIONS = {
    "hidden_size": ("hidden_size", "dim"),
    "intermediate_size": ("intermediate_size", "hidden_dim"),
    "num_hidden_layers": ("num_hidden_layers", "n_layers"),
    "num_attention_heads": ("num_attention_heads", "n_heads"),
    "vocab_size": ("vocab_size",),
}
# Families whose tokenizers emit no segment ids by default (transformers' `model_input_names`).
_WITHOUT_SEGMENTS = frozenset({"roberta", "xlm-roberta", "camembert", "distilbert", "mpnet", "modernbert"})
_CLASSES_WITHOUT_SEGMENTS = frozenset(
    f"{name}Tokenizer"
    for name in (
        "Bart",
        "BigBird",
        "Camembert",
        "DistilBert",
        "GPT2",
        "GPTNeoX",
        "Gemma",
        "Llama",
        "Longformer",
        "MBart",
        "MPNet",
        "Qwen2",
        "Roberta",
        "T5",
        "XLMRoberta",
    )
) | {"TokenizersBackend"}
# Families whose configuration means zero segment embeddings where it does not say.
_NO_SEGMENTS_UNLESS_SAID = frozenset({"deberta", "deberta-v2"})


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """Dimensions of the transformer; 0 where the configuration states none."""
    values = {
        field: next((config[name] for name in names if isinstance(config.get(name), int)), 0)
        for field, names in _DIMENSIONS.items()
    }
    return Architecture(model_type=str(config.get("model_type", "unknown")), **values)


def usable_positions(config: Mapping[str, Any], pad_token_id: int) -> int | None:
    """Tokens the position embeddings have room for, or None where the configuration states none.

    RoBERTa and its relatives number positions from `pad_token_id + 1`, so XLM-R's 514 are 512.
    """
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    if config.get("model_type") in _OFFSET_POSITIONS:
        return positions - (pad_token_id + 1)
    return positions


def _clips_distances(config: Mapping[str, Any]) -> bool:
    """Whether a model knows of positions nothing but the distance of two tokens, up to the farthest it tells apart.

    So does DeBERTa-v3: there is no length that it cannot compute, whatever its `max_position_embeddings`.
    """
    relative = config.get("model_type") == "deberta-v2" and config.get("relative_attention") is True
    return relative and config.get("position_biased_input", True) is False


def usable_length(
    config: Mapping[str, Any], limit: object, pad_token_id: int, stated: int | None, *, own_setting: bool = False
) -> int:
    """Longest pair in tokens, special tokens included.

    The truncation inside a `tokenizer.json` is ignored: it is a setting of the training.

    Args:
        config: `config.json`.
        limit: what the tokenizer's settings (`model_max_length`) or sentence-transformers' say; anything but a number
            of tokens says nothing.
        pad_token_id: the padding token's id.
        stated: what the caller wants; None for the most the checkpoint takes.
        own_setting: whether the limit is one that sentence-transformers takes as it is, and not the tokenizer's.

    Raises:
        InvalidInputError: the stated length is less than a pair needs or more than the model has positions for.
        UnsupportedCheckpointError: nothing says how long a pair may be.
    """
    positions = usable_positions(config, pad_token_id)
    if stated is not None:
        if isinstance(stated, bool) or not isinstance(stated, int) or stated < MIN_LENGTH:
            raise InvalidInputError(f"max_length {stated!r} is too small; expected an integer of at least {MIN_LENGTH}")
        if positions is not None and stated > positions and not _clips_distances(config):
            raise InvalidInputError(
                f"max_length {stated} is more than the {positions} tokens the model has positions for"
            )
        return stated
    sane = limit if isinstance(limit, (int, float)) and 0 < limit < _SANE_LENGTH else None
    if own_setting and sane is not None and _clips_distances(config):
        positions = None
    limits = [int(length) for length in (positions, sane) if length is not None]
    if not limits:
        raise UnsupportedCheckpointError(
            "neither config.json (max_position_embeddings) nor tokenizer_config.json (model_max_length) says how long "
            "a pair may be; state it with max_length (--max-length)"
        )
    if min(limits) < MIN_LENGTH:
        raise UnsupportedCheckpointError(
            f"the checkpoint takes {min(limits)} tokens at most; a pair needs at least {MIN_LENGTH}"
        )
    return min(limits)


def read_pad_token_id(config: Mapping[str, Any], tokenizer_config: Mapping[str, Any], tokenizer: Tokenizer) -> int:
    """Id that fills a padded batch: the one config.json states, else the tokenizer's, else 0.

    The model's comes first because RoBERTa computes positions by comparing ids with it.
    """
    stated = config.get("pad_token_id")
    if isinstance(stated, int) and not isinstance(stated, bool) and stated >= 0:
        return stated
    token = tokenizer_config.get("pad_token")
    content = token.get("content") if isinstance(token, dict) else token
    if isinstance(content, str):
        index = tokenizer.token_to_id(content)
        if isinstance(index, int):
            return index
    return 0


def uses_segment_ids(config: Mapping[str, Any], tokenizer_config: Mapping[str, Any], tokenizer_class: str = "") -> bool:
    """Whether the checkpoint was trained to see which text a token belongs to.

    That takes an embedding for each of two segments and a tokenizer that hands the ids out, whatever is usual in the
    family of the model.

    Args:
        config: `config.json`.
        tokenizer_config: `tokenizer_config.json`.
        tokenizer_class: class of transformers that reads the tokenizer, without "Fast"; "" where nothing says.
    """
    kinds = config.get("type_vocab_size", 0 if config.get("model_type") in _NO_SEGMENTS_UNLESS_SAID else 2)
    if isinstance(kinds, int) and kinds < 2:  # noqa: PLR2004
        return False
    names = tokenizer_config.get("model_input_names")
    if isinstance(names, list):
        return "token_type_ids" in names
    if tokenizer_class:
        return tokenizer_class not in _CLASSES_WITHOUT_SEGMENTS
    return config.get("model_type") not in _WITHOUT_SEGMENTS
