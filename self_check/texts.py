"""The texts that are scored: real words, in pairs of every length that the engine treats differently."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from crossrank.benchmarks.harness.passages import standard_library_passages
from crossrank.benchmarks.harness.workloads import WorkloadMaker
from crossrank.engine.plan.shape_grid import LENGTHS

if TYPE_CHECKING:
    from crossrank.benchmarks.harness.passages import Passages
    from crossrank.models.artifact import Artifact

_QUERY = "read a text file"
_EVEN_LENGTHS = 12


class CheckTexts:
    """Makes documents for one artifact, the same ones at every call.

    Attributes:
        query: of every pair; short, so that short pairs can be made.
    """

    def __init__(self, artifact: Artifact, passages: Passages | None = None) -> None:
        """Load the artifact's tokenizer.

        Args:
            artifact: its tokenizer counts the tokens.
            passages: where the words come from; None takes the standard library's documentation.
        """
        passages = passages or dataclasses.replace(standard_library_passages(), query=_QUERY)
        manifest = artifact.manifest
        self._maker = WorkloadMaker(passages, artifact.path(manifest.tokenizer), max_length=manifest.max_length)
        self._longest = manifest.max_length
        self.query = passages.query
        self._shortest = self._maker.shortest_pair

    def lengths(self) -> list[int]:
        """Lengths of pairs from the shortest to the longest, with those of CUDA's shapes and one token above each."""
        even = np.linspace(self._shortest, self._longest, _EVEN_LENGTHS).astype(int)
        edges = [edge + extra for edge in LENGTHS for extra in (0, 1)]
        usable = {int(length) for length in (*even, *edges) if self._shortest <= length <= self._longest}
        return sorted(usable)

    def grid_lengths(self) -> list[int]:
        """The lengths of CUDA's shapes that query and model allow; the model's longest if there are none."""
        return [edge for edge in LENGTHS if self._shortest <= edge <= self._longest] or [self._longest]

    def of_lengths(self, lengths: list[int]) -> list[str]:
        """One document for each length of a pair, all of them different."""
        return list(self._maker.of_pair_lengths(lengths).documents)

    def shortened(self, length: int, tokens: int, count: int) -> list[str]:
        """`count` documents for pairs that are `tokens` shorter than `length`, as far as the query allows."""
        return self.of_lengths([max(length - tokens, self._shortest)] * count)

    def mixed(self, count: int, *, longest: int | None = None) -> list[str]:
        """`count` different documents, of lengths spread evenly from the shortest pair to the longest.

        Args:
            count: how many.
            longest: tokens of a pair at most; None takes the model's.
        """
        longest = min(longest or self._longest, self._longest)
        lengths = np.linspace(self._shortest, longest, count).astype(int)
        # Neighbours differ in length, as in a user's list, so that the engine's sorting by length has to be undone.
        order = np.argsort([index * 7919 % 104729 for index in range(count)])
        return self.of_lengths([int(lengths[index]) for index in order])
