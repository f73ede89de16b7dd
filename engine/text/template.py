"""How a model lays out a pair: the special tokens before, between and after query and document, and segment ids.

The layout is read off the tokenizer's own post-processor by encoding one probe pair, so BERT's
`[CLS] q [SEP] d [SEP]` and RoBERTa's `<s> q </s></s> d </s>` need no code of their own. Language models have a text
around the two instead, which the artifact states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.text.documents import encodable
from crossrank.errors import ArtifactError, InvalidInputError

if TYPE_CHECKING:
    import numpy.typing as npt
    from tokenizers import Tokenizer

    from crossrank.models.manifest import Template

_PROBE = "a"


@dataclass(frozen=True)
class PairTemplate:
    """Special tokens and segment ids around a query and a document.

    Attributes:
        prefix: token ids before the query.
        middle: token ids between query and document.
        suffix: token ids after the document.
        prefix_types: segment ids of the prefix; likewise `middle_types` and `suffix_types`.
        query_type: segment id of every query token.
        document_type: segment id of every document token.
    """

    prefix: npt.NDArray[np.int64]
    middle: npt.NDArray[np.int64]
    suffix: npt.NDArray[np.int64]
    prefix_types: npt.NDArray[np.int64]
    middle_types: npt.NDArray[np.int64]
    suffix_types: npt.NDArray[np.int64]
    query_type: int
    document_type: int

    @property
    def special_tokens(self) -> int:
        """Number of special tokens in a pair."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> PairTemplate:
        """Read the layout of a tokenizer.

        Args:
            tokenizer: with truncation and padding off.

        Raises:
            ArtifactError: it cannot encode a plain text, or its post-processor does not put the query before the
                document.
        """
        try:
            encoding = tokenizer.encode(_PROBE, _PROBE, add_special_tokens=True)
        except Exception as error:  # tokenizers raises plain Exception
            raise ArtifactError(
                f"the tokenizer cannot encode the text {_PROBE!r}: {error}; it needs a token for text it does not "
                f"know: add the unknown token its model names (unk_token of tokenizer.json) to its vocabulary"
            ) from error
        sequence = [-1 if number is None else number for number in encoding.sequence_ids]
        query = [index for index, number in enumerate(sequence) if number == 0]
        document = [index for index, number in enumerate(sequence) if number == 1]
        if not query or not document or query[-1] > document[0]:
            raise ArtifactError("the tokenizer does not lay out a pair as query, then document; it suits no reranker")
        ids = np.asarray(encoding.ids, dtype=np.int64)
        types = np.asarray(encoding.type_ids, dtype=np.int64)
        before, between, after = slice(query[0]), slice(query[-1] + 1, document[0]), slice(document[-1] + 1, None)
        return cls(
            prefix=ids[before],
            middle=ids[between],
            suffix=ids[after],
            prefix_types=types[before],
            middle_types=types[between],
            suffix_types=types[after],
            query_type=int(types[query[0]]),
            document_type=int(types[document[0]]),
        )

    @classmethod
    def of_texts(cls, tokenizer: Tokenizer, template: Template) -> PairTemplate:
        """The layout that an artifact states as texts.

        Args:
            tokenizer: with truncation and padding off.
            template: the artifact's.
        """
        zero = np.zeros(0, dtype=np.int64)
        prefix, middle, suffix = (
            np.asarray(list(chain.from_iterable(tokens_of(tokenizer, part) for part in parts)), dtype=np.int64)
            for parts in (template.prefix, template.middle, template.suffix)
        )
        return cls(prefix, middle, suffix, zero, zero, zero, 0, 0).marking_documents()

    def marking_documents(self) -> PairTemplate:
        """The same layout with segment id 1 from the document on: for causal models, which have no segments."""
        return replace(
            self,
            prefix_types=np.zeros_like(self.prefix),
            middle_types=np.zeros_like(self.middle),
            suffix_types=np.ones_like(self.suffix),
            query_type=0,
            document_type=1,
        )


class TemplateTexts:
    """The texts around queries and documents.

    Attributes:
        before_document: directly before each document's text.
        after_query: token ids of the text after a query, int32 (n,).
    """

    def __init__(self, tokenizer: Tokenizer, template: Template | None) -> None:
        """Read the texts of a template.

        Args:
            tokenizer: with truncation and padding off.
            template: the artifact's; None leaves queries and documents as they are.
        """
        self._template = template
        self._before_query, _, after_query = (template.query if template else "{query}").partition("{query}")
        self._after_query = after_query
        self.after_query = np.asarray(tokens_of(tokenizer, after_query), dtype=np.int32)
        self.before_document = template.document.removesuffix("{document}") if template else ""

    def query(self, query: str, instruction: str | None) -> str:
        """A query's text, with the instruction before it.

        Args:
            query: the query.
            instruction: what to judge by; None for the model's own, if it has one.

        Raises:
            InvalidInputError: there is an instruction and the model takes none.
        """
        return f"{self.before_query(instruction)}{query}{self._after_query}"

    def before_query(self, instruction: str | None) -> str:
        """What stands before a query's text, the instruction included; for arguments and errors see `query`."""
        self.check_instruction(instruction)
        template = self._template
        if template is None:
            return ""
        chosen = template.instruction if instruction is None else instruction
        before = "" if chosen is None else (template.instruction_text or "").replace("{instruction}", chosen)
        return f"{before}{self._before_query}"

    def check_instruction(self, instruction: str | None) -> None:
        """Refuse an instruction that this model cannot be given.

        Raises:
            InvalidInputError: it is no text, or blank, or the model takes none.
        """
        if instruction is None:
            return
        if not isinstance(instruction, str) or not instruction.strip() or encodable(instruction) != instruction:
            raise InvalidInputError(
                f"instruction={instruction!r}: a text that is not blank and that UTF-8 can write expected, or None"
            )
        if self._template is None or self._template.instruction_text is None:
            raise InvalidInputError(
                f"instruction={instruction!r:.80}: this model was not trained with instructions and takes none; "
                f"leave it out"
            )


def tokens_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text by itself, without special tokens other than those it spells out."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids if text else []
    return ids
