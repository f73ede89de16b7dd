"""Workloads: one query with its documents, of given lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crossrank.benchmarks.harness.lengths import DocumentCutter, mixed_lengths
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.passages import Passages

DocumentLength = Literal["short", "middle", "long", "mixed"]

DOCUMENT_TOKENS: dict[DocumentLength, int] = {"short": 40, "middle": 120, "long": 400}
"""Tokens of a document, without query and special tokens."""
TOP_KS = (10, 20, 50, 100, 200, 500, 1000)
MIXED_SHORTEST, MIXED_LONGEST, MIXED_MEAN = 51, 512, 233
"""Tokens of a pair in the mixed set, query and special tokens included."""
ONE_PAIR_TOKENS = 128


@dataclass(frozen=True)
class Workload:
    """One call to measure.

    Attributes:
        name: short name.
        title: description for tables.
        query: the query.
        documents: its documents.
        pair_tokens: tokens of each pair, special tokens included, before truncation.
    """

    name: str
    title: str
    query: str
    documents: tuple[str, ...]
    pair_tokens: tuple[int, ...]


class WorkloadMaker:
    """Makes workloads from passages, with lengths counted by one model's tokenizer."""

    def __init__(self, passages: Passages, tokenizer_file: Path, *, max_length: int) -> None:
        """Load the tokenizer.

        Args:
            passages: the texts that documents are made of.
            tokenizer_file: the model's `tokenizer.json`.
            max_length: tokens of the longest pair that the model takes.
        """
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.passages = passages
        self._max_length = max_length
        self._cutter = DocumentCutter(tokenizer, passages.texts)
        self._overhead = len(tokenizer.encode(passages.query, "")) if passages.query else 0

    def of_length(self, length: DocumentLength, top_k: int) -> Workload:
        """A workload of `top_k` documents of a length class.

        Raises:
            InvalidInputError: length "mixed", and a BEIR folder has fewer different documents.
        """
        if length == "mixed":
            return self.mixed(top_k)
        tokens = DOCUMENT_TOKENS[length]
        return self._cut(f"{length}-{top_k}", f"{top_k} {length} documents of {tokens} tokens", [tokens] * top_k)

    def mixed(self, top_k: int = 100) -> Workload:
        """Pairs of 51 to 512 tokens, mean 233; from a BEIR folder, the first query's candidates unchanged.

        Raises:
            InvalidInputError: the BEIR folder has fewer different documents.
        """
        if self.passages.natural:
            # Without duplicates, because equal documents of a call are scored once.
            documents = tuple(dict.fromkeys((*self.passages.natural, *self.passages.texts)))[:top_k]
            if len(documents) < top_k:
                raise InvalidInputError(f"{top_k} documents: {self.passages.name} has {len(documents)} different ones")
            lengths = [self._overhead + self._cutter.count(text) for text in documents]
            title = f"{top_k} documents of {self.passages.name} as they are"
            return Workload(f"mixed-{top_k}", title, self.passages.query, documents, tuple(lengths))
        longest = min(MIXED_LONGEST, self._max_length)
        mean = MIXED_MEAN * longest / MIXED_LONGEST
        shortest = min(MIXED_SHORTEST, longest)
        lengths = mixed_lengths(max(top_k, 2), shortest=shortest, longest=longest, mean=mean)[:top_k]
        title = f"{top_k} documents, pairs of {shortest} to {longest} tokens (mean {mean:.0f})"
        return self._cut(f"mixed-{top_k}", title, [tokens - self._overhead for tokens in lengths])

    def of_pair_length(self, pair_tokens: int, count: int) -> Workload:
        """`count` pairs of exactly `pair_tokens` tokens, special tokens included.

        Raises:
            InvalidInputError: the query leaves no room for a document.
        """
        if pair_tokens <= self._overhead:
            raise InvalidInputError(
                f"pairs of {pair_tokens} tokens: the query takes {self._overhead} of them; more expected"
            )
        title = f"{count} pair{'s' * (count > 1)} of {pair_tokens} tokens"
        return self._cut(f"pairs-{count}x{pair_tokens}", title, [pair_tokens - self._overhead] * count)

    @property
    def shortest_pair(self) -> int:
        """Length of the shortest pair: the query, the special tokens and one token of a document."""
        return self._overhead + 1

    def of_pair_lengths(self, lengths: Sequence[int]) -> Workload:
        """One pair for each length in tokens, special tokens included; every document starts differently.

        Raises:
            InvalidInputError: the query leaves no room for a document in one of them.
        """
        if min(lengths, default=self.shortest_pair) < self.shortest_pair:
            raise InvalidInputError(
                f"pairs of {min(lengths)} tokens: the query takes {self._overhead} of them; more expected"
            )
        title = f"{len(lengths)} pairs of {min(lengths, default=0)} to {max(lengths, default=0)} tokens"
        return self._cut(f"pairs-{len(lengths)}", title, [tokens - self._overhead for tokens in lengths])

    def _cut(self, name: str, title: str, token_counts: Sequence[int]) -> Workload:
        documents = self._cutter.documents(token_counts)
        lengths = tuple(self._overhead + self._cutter.count(text) for text in documents)
        return Workload(name, title, self.passages.query, tuple(documents), lengths)
