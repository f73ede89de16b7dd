"""Tokenizers that transformers 5 builds anew: of `tokenizer.json` it keeps the vocabulary and the template.

Its classes for XLM-RoBERTa, CamemBERT and DeBERTa-v2 bring a normalizer and a pre-tokenizer of their own, whatever the
file says. They differ from what older versions wrote in spaces at the ends of a text and in a row.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenizers import Tokenizer

FIRST_THAT_REBUILDS = Version("5")
_BY_WORDS = frozenset(("CamembertTokenizer", "XLMRobertaTokenizer"))
_BY_SPACES = frozenset(("DebertaV2Tokenizer",))
_SPACE = "▁"


def rebuild(tokenizer: Tokenizer, class_name: str, values: Mapping[str, Any]) -> bool:
    """Give a tokenizer the normalizer and pre-tokenizer of its class in transformers 5.

    Args:
        tokenizer: of `tokenizer.json`; changed in place.
        class_name: class of transformers that reads it, without "Fast".
        values: `tokenizer_config.json`.

    Returns:
        Whether it reads otherwise than the file says.
    """
    from tokenizers import pre_tokenizers

    before = _stages(tokenizer)
    prefix = bool(values.get("add_prefix_space", True))
    if class_name in _BY_WORDS:
        tokenizer.normalizer = _precompiled(tokenizer)
        by_space = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always" if prefix else "never")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), by_space])
    elif class_name in _BY_SPACES:
        tokenizer.normalizer = _spaces_in_a_row(lower_case=bool(values.get("do_lower_case", False)))
        by_space = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always" if prefix else "first")
        punctuation = [pre_tokenizers.Punctuation(behavior="isolated")] if values.get("split_by_punct") else []
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*punctuation, by_space])
    return _stages(tokenizer) != before


def without_unlisted_tokens(tokenizer: Tokenizer, class_name: str, values: Mapping[str, Any]) -> Tokenizer:
    """Take off the added tokens of `tokenizer.json` if `tokenizer_config.json` lists others.

    transformers 5 then adds those of the list and numbers them from the end of the vocabulary on.

    Args:
        tokenizer: of `tokenizer.json`; not changed.
        class_name: class of transformers that reads it, without "Fast".
        values: `tokenizer_config.json`.

    Returns:
        The tokenizer itself, or one without added tokens if that class is built anew and a token is not in the list.
    """
    from tokenizers import Tokenizer

    listed = values.get("added_tokens_decoder")
    if class_name not in _BY_WORDS | _BY_SPACES or not isinstance(listed, dict):
        return tokenizer
    if all(str(index) in listed for index in tokenizer.get_added_tokens_decoder()):
        return tokenizer
    state = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps(state | {"added_tokens": []}))


def rebuilding_notes(class_name: str, saved: Version | None, installed: Version | None) -> tuple[str, ...]:
    """What to tell of a tokenizer that an older transformers saved, and that the installed one builds anew.

    Args:
        class_name: class of transformers that reads it, without "Fast".
        saved: the version that saved the checkpoint; None where it does not say.
        installed: the version that is installed; None where there is none.
    """
    newer = installed is not None and installed >= FIRST_THAT_REBUILDS
    older = saved is None or saved < FIRST_THAT_REBUILDS
    if not (newer and older and class_name in _BY_WORDS | _BY_SPACES):
        return ()
    note = (
        f"transformers {installed}, which is installed, builds a {class_name} anew and reads spaces in a row and at "
        f"the ends of a text otherwise than tokenizer.json says; the artifact reads them as {installed} does"
    )
    return (note,)


def _precompiled(tokenizer: Tokenizer) -> Any:
    """The character map of sentencepiece, the one part of a normalizer that is kept."""
    from tokenizers import normalizers

    if tokenizer.normalizer is None:
        return None
    state = json.loads(tokenizer.normalizer.__getstate__())
    for step in state.get("normalizers", [state]):
        if step.get("type") == "Precompiled":
            return normalizers.Precompiled(base64.b64decode(step["precompiled_charsmap"]))
    return None


def _spaces_in_a_row(*, lower_case: bool) -> Any:
    from tokenizers import Regex, normalizers

    steps = [normalizers.Lowercase()] if lower_case else []
    steps += [
        normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
        normalizers.NFC(),
        normalizers.Strip(left=False, right=True),
    ]
    return normalizers.Sequence(steps)


def _stages(tokenizer: Tokenizer) -> tuple[Any, ...]:
    stages = (tokenizer.normalizer, tokenizer.pre_tokenizer)
    return tuple(None if stage is None else stage.__getstate__() for stage in stages)
