"""The texts that are scored: real words, in pairs of every length that matters."""

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
_SPREAD = 12


class CheckTexts:
    """Makes documents for one artifact; the same ones at every call.

    Attributes:
        query: of all of them; short, so that short pairs can be made.
    """

    def __init__(self, artifact: Artifact, passages: Passages | None = None) -> None:
        """Load the artifact's tokenizer.

        Args:
            artifact: whose tokenizer counts.
            passages: where the words come from; None takes the standard library's documentation.
        """
        passages = passages or dataclasses.replace(standard_library_passages(), query=_QUERY)
        manifest = artifact.manifest
        self._maker = WorkloadMaker(passages, artifact.path(manifest.tokenizer), max_length=manifest.max_length)
        self._longest = manifest.max_length
        self.query = passages.query
        self._shortest = self._maker.shortest_pair

    def lengths(self) -> list[int]:
        """Lengths of pairs from the shortest to the longest; among them those of CUDA's shapes, and one token more."""
        even = np.linspace(self._shortest, self._longest, _SPREAD).astype(int)
        edges = [edge + more for edge in LENGTHS for more in (0, 1)]
        usable = {int(length) for length in (*even, *edges) if self._shortest <= length <= self._longest}
        return sorted(usable)

    def grid_lengths(self) -> list[int]:
        """Lengths that runs are padded to, as far as query and model leave room; at least the model's longest."""
        return [edge for edge in LENGTHS if self._shortest <= edge <= self._longest] or [self._longest]

    def of_lengths(self, lengths: list[int]) -> list[str]:
        """A document for each length of a pair, all of them different."""
        return list(self._maker.of_pair_lengths(lengths).documents)

    def shortened(self, length: int, tokens: int, count: int) -> list[str]:
        """So many documents for pairs that are some tokens shorter than a length, as far as the query allows."""
        return self.of_lengths([max(length - tokens, self._shortest)] * count)

    def mixed(self, count: int, *, longest: int | None = None) -> list[str]:
        """So many different documents, of lengths spread evenly from the shortest pair to the longest.

        Args:
            count: how many.
            longest: tokens of a pair at most; None takes the model's.
        """
        longest = min(longest or self._longest, self._longest)
        lengths = np.linspace(self._shortest, longest, count).astype(int)
        # Neighbours differ much, as in a user's list, so that sorting by length has to be undone.
        order = np.argsort([index * 7919 % 104729 for index in range(count)])
        return self.of_lengths([int(lengths[index]) for index in order])
