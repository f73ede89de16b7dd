"""Cuts in normalized text: what pre-tokenizers, added tokens and the model make of the two characters beside one.

Does anything before the cut depend on what is after it? What is not known here gets no rule, and then no text is cut.
The behaviour is that of the `tokenizers` library, version 0.21 and later.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from crossrank.engine.text.normalizer_rules import METASPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tokenizers import Tokenizer

_WHITESPACE = frozenset(" \t\n\r")
_PUNCTUATION = frozenset(string.punctuation) - {"_"}
_ALPHANUMERIC = frozenset(string.ascii_letters + string.digits)

_BEFORE_SPACE = re.compile(f"(?s)(?=(.[ {METASPACE}]))")
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SPLITS_BEFORE_SPACES = frozenset(
    (
        _GPT2,
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        *(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
            + digits
            + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            for digits in (r"\p{N}{1,3}", r"\p{N}")
        ),
    )
)
"""Patterns of GPT-2, of tiktoken, of Llama 3 and of Qwen 2. All their alternatives that take a character other than
whitespace take spaces and tabs before it only, and only the two for runs of whitespace look further than they take; so
a match ends before every space or tab that follows another character, whatever comes after."""


class Verdict(Enum):
    """What a pre-tokenizer makes of the two sides of a cut."""

    SEPARATE = auto()
    """A split lies at the cut, and those before it do not depend on what is after it."""
    TOGETHER = auto()
    """No split need lie at the cut; those before it do not depend on what is after it."""
    METASPACE = auto()
    """As TOGETHER; the space after the cut becomes U+2581."""
    UNKNOWN = auto()
    """Splits before the cut may depend on what is after it."""


PreTokenizer: TypeAlias = "Callable[[str, str], Verdict]"
"""Given the characters before and after a cut, what is done there."""


def pre_tokenizer_rules(parts: Sequence[Mapping[str, Any]]) -> tuple[PreTokenizer, ...] | None:
    """The rules of pre-tokenizers; None where one has none.

    Args:
        parts: the settings of each, in their order.
    """
    rules = [_pre_tokenizer_rule(settings) for settings in parts]
    return None if None in rules else tuple(cast("list[PreTokenizer]", rules))


def _pre_tokenizer_rule(settings: Mapping[str, Any]) -> PreTokenizer | None:  # noqa: C901, PLR0911  one case a type
    match settings:
        case {"type": "BertPreTokenizer"}:
            return lambda before, after: _separate(_at_space(before, after) or after in _PUNCTUATION)
        case {"type": "Whitespace"}:
            return lambda before, after: _separate(_at_space(before, after) or _at_punctuation(before, after))
        case {"type": "WhitespaceSplit"}:
            return lambda before, after: _separate(_at_space(before, after))
        case {"type": "Punctuation", "behavior": behavior}:
            isolates = behavior != "MergedWithPrevious"
            return lambda before, after: _separate(isolates and _at_punctuation(before, after))
        case {"type": "Digits" | "UnicodeScripts"}:
            return lambda _before, _after: Verdict.TOGETHER
        case {"type": "CharDelimiterSplit", "delimiter": delimiter}:
            return lambda _before, after: _separate(after == delimiter)
        case {"type": "Metaspace", "replacement": str(replacement), "split": split}:
            return partial(_metaspace, replacement=replacement, split=split)
        case {"type": "ByteLevel", "use_regex": use_regex}:
            return _gpt2 if use_regex else lambda _before, _after: Verdict.UNKNOWN  # another alphabet from here on
        case {"type": "Split", "pattern": {"String": str(text)}, "behavior": behavior, "invert": False} if text:
            return partial(_split, text=text, cuts=behavior != "MergedWithPrevious")
        case {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}:
            known = regex in _SPLITS_BEFORE_SPACES and (behavior, invert) in {("Isolated", False), ("Removed", True)}
            return _before_space if known else None
    return None


def _separate(yes: bool) -> Verdict:
    return Verdict.SEPARATE if yes else Verdict.TOGETHER


def _at_space(before: str, after: str) -> bool:
    return before in _WHITESPACE or after in _WHITESPACE


def _at_punctuation(before: str, after: str) -> bool:
    return before in _ALPHANUMERIC and after in _PUNCTUATION


def _metaspace(before: str, after: str, *, replacement: str, split: bool) -> Verdict:
    if before in {" ", replacement}:
        return Verdict.UNKNOWN
    if after not in {" ", replacement}:
        return Verdict.TOGETHER
    if split:
        return Verdict.SEPARATE
    return Verdict.METASPACE if replacement == METASPACE else Verdict.UNKNOWN


def _gpt2(before: str, after: str) -> Verdict:
    ends = (after in _WHITESPACE and not before.isspace()) or _at_punctuation(before, after)
    return Verdict.SEPARATE if ends else Verdict.UNKNOWN


def _before_space(before: str, after: str) -> Verdict:
    return Verdict.SEPARATE if after in {" ", "\t"} and not before.isspace() else Verdict.UNKNOWN


def _split(before: str, after: str, *, text: str, cuts: bool) -> Verdict:
    if before + after in text:
        return Verdict.UNKNOWN
    return _separate(cuts and after == text and before != text)


@dataclass(frozen=True)
class AddedContent:
    """One added token, as it is searched for.

    Attributes:
        content: its characters.
        lstrip: whether it takes whitespace before it.
        rstrip: whether it takes whitespace after it.
        single_word: whether it is no token within a word.
    """

    content: str
    lstrip: bool
    rstrip: bool
    single_word: bool

    def depends_across(self, before: str, after: str) -> bool:
        """Whether it may lie across the cut, or ends there and looks further, or takes whitespace before it."""
        if before + after in self.content:
            return True
        if before.isspace() and (self.lstrip or self.rstrip):
            return True
        if not self.content.endswith(before):
            return False
        return self.rstrip or (self.single_word and (after.isalnum() or after == "_"))


@dataclass(frozen=True)
class AddedTokens:
    """The tokens that are searched for in the text, before and after it is normalized.

    Attributes:
        raw: searched for before, as contents and their flags.
        normalized: searched for after.
    """

    raw: tuple[AddedContent, ...]
    normalized: tuple[AddedContent, ...]

    def depend_across(self, before: str, after: str, *, normalized: bool) -> bool:
        """Whether one may lie across a cut, or decide by what is after it what it takes before it."""
        return any(token.depends_across(before, after) for token in (self.normalized if normalized else self.raw))


def added_token_rules(tokenizer: Tokenizer) -> AddedTokens | None:
    """What a tokenizer's added tokens are searched by; None where nothing is left of one when it is normalized."""
    tokens = [token for token in tokenizer.get_added_tokens_decoder().values() if token.content]
    normalize = str if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str
    raw, normalized = (
        tuple(
            AddedContent(
                normalize(token.content) if after else token.content, token.lstrip, token.rstrip, token.single_word
            )
            for token in tokens
            if token.normalized == after
        )
        for after in (False, True)
    )
    return AddedTokens(raw, normalized) if all(token.content for token in normalized) else None


@dataclass(frozen=True)
class ModelRule:
    """What a model may join, where no pre-tokenizer separates the two sides.

    Attributes:
        single: characters that are tokens.
        joined: neighbours within a token, the second of them a space or U+2581.
    """

    single: frozenset[str]
    joined: frozenset[str]

    def never_joins(self, before: str, after: str) -> bool:
        """Whether no token holds both characters, and both are known: unknown ones may be made one token.

        Merges and pieces of a text can then be found on either side alone: none lies across the cut.
        """
        known = before in self.single and after in self.single
        return known and after in {" ", METASPACE} and before + after not in self.joined


def model_rule(tokenizer: Tokenizer, *, splits: bool) -> ModelRule | None:
    """The rule of a tokenizer's model; None where it is not known, or tokenizes the same text in several ways.

    Args:
        tokenizer: whose model it is.
        splits: whether a pre-tokenizer separates texts; then the vocabulary, which may be large, is not read.
    """
    model: Any = tokenizer.model
    match type(model).__name__:
        case "WordPiece" | "WordLevel":  # a text longer than a word is no token
            return ModelRule(frozenset(), frozenset())
        case "BPE" if model.dropout:
            return None
        case "BPE" if model.ignore_merges or model.continuing_subword_prefix or model.end_of_word_suffix:
            splits = True
        case "BPE" | "Unigram":
            pass
        case _:
            return None
    tokens = [] if splits else list(tokenizer.get_vocab(with_added_tokens=False))
    joined = frozenset(pair for token in tokens for pair in _BEFORE_SPACE.findall(token))
    return ModelRule(frozenset(token for token in tokens if len(token) == 1), joined)
