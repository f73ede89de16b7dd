"""Where a text may be cut before it is tokenized, so that the tokens of its beginning stay what they are.

A cut is considered only between characters whose surroundings are simple: before a space, a line end, a punctuation
mark or an ideograph, after a letter or the like, with no combining mark, joiner or control character near it. There,
every component of the tokenizer is asked in turn: the added tokens, each normalizer, each pre-tokenizer, the model
(`normalizer_rules.py`, `cut_rules.py`). Each answers from its own settings whether anything to the left can depend on
what is to the right. One that says yes, or that is not known here, rules the cut out; a text without a cut is tokenized
whole.

So the tokens of `text[:cut]` are the first tokens of `text`, with the same ids and offsets. Whether the text has more
than are wanted is known as soon as its beginning has.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossrank.engine.text.cut_rules import (
    AddedTokens,
    PreTokenizer,
    Verdict,
    added_token_rules,
    model_rule,
    pre_tokenizer_rules,
)
from crossrank.engine.text.normalizer_rules import METASPACE, Normalizer, normalizer_rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenizers import Tokenizer

    from crossrank.engine.text.cut_rules import ModelRule

_SEPARATORS = " \\t\\n\\r"
_PUNCTUATION = "!-/:-@\\[-\\^`{-~"
"""ASCII's, without the underscore, which is part of a word."""
_IDEOGRAPHS = "\u4e00-\u9fff"
SIMPLE = (
    "!-~\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"  # ASCII and other Latin letters
    "\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03ce\u0400-\u0481\u048a-\u052f"  # Greek, Cyrillic
    "\u05d0-\u05ea\u0621-\u063a\u0641-\u064a\u0904-\u0939\u0e01-\u0e30"  # Hebrew, Arabic, Devanagari, Thai
    "\u2010-\u2016\u2018-\u2022\u2026\u3001\u3002\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"  # punctuation
    f"\u3041-\u3096\u30a1-\u30fa\uac00-\ud7a3{_IDEOGRAPHS}"  # kana, Hangul syllables, ideographs
)
"""Characters, as a regular expression's set, that are a grapheme of their own beside each other and beside the
separators (Unicode Standard Annex 29) and never combine with a character before them in any normal form (Annex 15)."""

_CANDIDATE = re.compile(
    f"(?<=[{SIMPLE}{_SEPARATORS}][{SIMPLE}])(?=[{_SEPARATORS}{_IDEOGRAPHS}][{SIMPLE}{_SEPARATORS}])"
    f"|(?<=[{SIMPLE}{_SEPARATORS}][0-9A-Za-z])(?=[{_PUNCTUATION}][{SIMPLE}{_SEPARATORS}])"
)
_SEARCHED = 4096
"""Characters searched for a cut; where there is none in so many, the next attempt is further on."""
_MOST_KNOWN = 10_000
"""Answers kept, by the characters beside a cut; some 100 bytes each."""
_AFTER = "a"
"""Stands for the text after the characters beside a cut."""


@dataclass(frozen=True)
class SafeCuts:
    """The cuts that one tokenizer allows.

    Attributes:
        added: its added tokens.
        normalizers: in their order.
        pre_tokenizers: in their order.
        model: says what its model may join where no pre-tokenizer separates the two sides.
    """

    added: AddedTokens
    normalizers: tuple[Normalizer, ...]
    pre_tokenizers: tuple[PreTokenizer, ...]
    model: ModelRule
    _known: dict[str, bool] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> SafeCuts | None:
        """Read a tokenizer's components; None where one is not understood, so that no text is ever cut."""
        added = added_token_rules(tokenizer)
        normalizers = normalizer_rules(_parts(tokenizer.normalizer, "normalizers"))
        pre_tokenizers = pre_tokenizer_rules(_parts(tokenizer.pre_tokenizer, "pretokenizers"))
        if added is None or normalizers is None or pre_tokenizers is None:
            return None
        splits = any(
            rule(_AFTER, separator) is Verdict.SEPARATE for rule in pre_tokenizers for separator in f" \n,{METASPACE}"
        )
        model = model_rule(tokenizer, splits=splits)
        return None if model is None else cls(added, normalizers, pre_tokenizers, model)

    def next_cut(self, text: str, position: int) -> int | None:
        """The first cut of a text from a position on, or None where none is near.

        Args:
            text: the whole text, without surrogates.
            position: characters that should be before the cut, at least.
        """
        for candidate in _CANDIDATE.finditer(text, max(position, 2), min(position + _SEARCHED, len(text))):
            cut = candidate.start()
            beside = text[cut - 1 : cut + 2]
            allowed = self._known.get(beside)
            if allowed is None:
                if len(self._known) >= _MOST_KNOWN:  # other threads add some, too
                    self._known.clear()
                allowed = self._known[beside] = self.allows(beside[0], beside[1:])
            if allowed:
                return cut
        return None

    def allows(self, left: str, right: str) -> bool:
        """Whether a text may be cut here.

        Args:
            left: the character before the cut.
            right: the two characters after it.
        """
        if self.added.depend_across(left, right[0], normalized=False):
            return False
        sides = self._normalized(left, right)
        if sides is None:
            return False
        before, behind = sides
        if self.added.depend_across(before, behind, normalized=True):
            return False
        for pre_tokenizer in self.pre_tokenizers:
            verdict = pre_tokenizer(before, behind)
            if verdict is Verdict.UNKNOWN:
                return False
            if verdict is Verdict.SEPARATE:
                return True
            if verdict is Verdict.METASPACE:
                behind = METASPACE
        return self.model.never_joins(before, behind)

    def _normalized(self, left: str, right: str) -> tuple[str, str] | None:
        """The characters beside the cut once the text is normalized; None where that depends on both sides."""
        right, after = right + _AFTER, _AFTER
        for normalizer in self.normalizers:
            if not normalizer.is_local(left[-1], right[0]):
                return None
            left, right, after = (normalizer.apply(side) for side in (left, right, after))
            # Something must be left of what is beside the cut, or characters not looked at would be beside it.
            if not left or not right.endswith(after) or len(right) == len(after):
                return None
        return left[-1], right[0]


def _parts(component: Any, key: str) -> list[Mapping[str, Any]]:
    """The settings of a component; of all its parts, in their order, where it is a sequence."""
    waiting, parts = [] if component is None else [json.loads(component.__getstate__())], []
    while waiting:
        part = waiting.pop(0)
        if part["type"] == "Sequence":
            waiting[:0] = part[key]
        else:
            parts.append(part)
    return parts
