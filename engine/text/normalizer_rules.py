"""Cuts in raw text: whether a normalizer treats the two sides of one apart.

What is not known here gets no rule, and then no text is cut. The behaviour is that of the `tokenizers` library, version
0.21 and later.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

METASPACE = "\u2581"
"""What SentencePiece writes for a space."""


@dataclass(frozen=True)
class Normalizer:
    """One normalizer.

    Attributes:
        is_local: given the characters before and after a cut, whether the two sides can be normalized apart.
        apply: normalizes a piece from the inside of a text.
    """

    is_local: Callable[[str, str], bool]
    apply: Callable[[str], str]


def normalizer_rules(parts: Sequence[Mapping[str, Any]]) -> tuple[Normalizer, ...] | None:
    """The rules of normalizers; None where one has none.

    Args:
        parts: the settings of each, in their order.
    """
    rules = [_normalizer_rule(settings) for settings in parts]
    return None if None in rules else tuple(cast("list[Normalizer]", rules))


def _normalizer_rule(settings: Mapping[str, Any]) -> Normalizer | None:  # noqa: PLR0911  one case a type
    from tokenizers import normalizers

    piece = normalizers.NFC()
    piece.__setstate__(json.dumps(settings).encode())  # makes it the one that the settings describe
    apply = piece.normalize_str
    match settings["type"]:
        case "Lowercase" | "Nmt" | "StripAccents":  # character by character
            return Normalizer(lambda _before, _after: True, apply)
        case "NFC" | "NFD" | "NFKC" | "NFKD" | "BertNormalizer":  # the last one decomposes
            return Normalizer(lambda _before, after: _begins_anew(after), apply)
        case "Precompiled":  # grapheme by grapheme
            return Normalizer(lambda _before, after: _begins_anew(after) and apply(after) != "", apply)
        case "Prepend":
            return Normalizer(lambda _before, _after: True, str)
        case "Strip":  # Inside a text nothing is stripped, and at its end nothing before a cut after other characters.
            return Normalizer(lambda before, _after: not before.isspace(), str)
        case "Replace":
            return _replace_rule(settings["pattern"], settings["content"], apply)
    return None


def _replace_rule(pattern: Mapping[str, str], content: str, apply: Callable[[str], str]) -> Normalizer | None:
    # Nothing is left of what an empty content replaces, and then other characters would be beside the cut.
    if not content or not all(_begins_anew(character) for character in content):
        return None
    match pattern:
        case {"Regex": " {2,}"}:
            return Normalizer(lambda before, _after: before != " ", apply)
        case {"String": text} if len(text) == 1:
            return Normalizer(lambda _before, _after: True, apply)
        case {"String": text} if text:
            return Normalizer(lambda before, after: before not in text and after not in text, apply)
    return None


def _begins_anew(character: str) -> bool:
    """Whether no normal form joins a character with one before it, and it begins a grapheme after simple ones."""
    return character.isascii() or "\u4e00" <= character <= "\u9fff" or character == METASPACE
