"""How a model lays out a pair: the special tokens before, between and after query and document, and segment ids.

The layout is read off the tokenizer's own post-processor by encoding one probe pair, so BERT's
`[CLS] q [SEP] d [SEP]` and RoBERTa's `<s> q </s></s> d </s>` need no code of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.errors import ArtifactError

if TYPE_CHECKING:
    import numpy.typing as npt
    from tokenizers import Tokenizer

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
