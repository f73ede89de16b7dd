"""What a run may hold: a class for each kind of batch, with its limits, its predicted time, and when batches join.

The planner cuts the pairs of a request, sorted by length, into batches of one kind. When a batch is about to run,
batches of other requests may join it. Both ask the kind and nothing else, so another kind is another class here.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from crossrank.models.manifest import PACKED_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from crossrank.engine.plan.cost import CostModel, Floats, Integers
    from crossrank.engine.plan.shape_grid import ShapeGrid
    from crossrank.models.manifest import Batching

    Sizes: TypeAlias = tuple[Integers, Floats, Integers]
    GroupTimes: TypeAlias = Callable[[int, int], tuple[slice, Floats] | tuple[list[int], list[float]]]

_GROUPS_PER_WORKER = (4, 2, 1)
"""How many groups a worker gets at least, to be compared: with more groups the workers finish closer together."""


@dataclass(frozen=True, slots=True)
class RunSize:
    """How large a run is.

    Attributes:
        rows: its pairs.
        length: tokens of each row, padding included.
        seconds: predicted time on one core or device.
        run_tokens: tokens that the layers compute, padding included.
    """

    rows: int
    length: int
    seconds: float
    run_tokens: int


@dataclass(frozen=True)
class BatchKind:
    """What runs of a graph may hold, and what they cost.

    Attributes:
        cost: predicts the time of a run.
        max_batch_tokens: tokens of a run at most, padding included; a longer pair runs alone.
        name: how the manifest says it.
        shares_runs: whether a run may hold more than one pair.
        mixes_lengths: whether it may hold pairs of different lengths.
        pads: whether shorter pairs are filled up. Where they are not, scores must not depend on the other pairs in any
            bit, and that is tried wherever a graph is loaded.
    """

    cost: CostModel
    max_batch_tokens: int
    name: ClassVar[Batching]
    shares_runs: ClassVar[bool] = True
    mixes_lengths: ClassVar[bool] = True
    pads: ClassVar[bool] = False

    def fits(self, rows: int, length: int) -> bool:
        """Whether several rows of a length are within the budget."""
        return rows * length <= self.max_batch_tokens

    def may_join(self, run: RunSize, other: RunSize) -> bool:
        """Whether two batches may be one run."""
        return self.fits(run.rows + other.rows, max(run.length, other.length))

    def most_rows(self, longest_first: Integers) -> Integers:
        """For each pair, how many pairs a batch may hold that starts with it, int64 (n,).

        Args:
            longest_first: tokens of each pair, descending, int64 (n,).
        """
        return np.maximum(1, self.max_batch_tokens // longest_first)

    def row_limits(self, longest_first: Integers, workers: int) -> Iterator[Integers]:
        """Limits to compare, each like `most_rows`: large batches cost less, small ones let workers end together.

        Args:
            longest_first: tokens of each pair, descending, int64 (n,).
            workers: how many runs execute at once.
        """
        most_rows = self.most_rows(longest_first)
        if workers == 1 or most_rows.max() == 1:
            yield most_rows
            return
        alone = self.cost.seconds(1, longest_first)
        for groups in _GROUPS_PER_WORKER:
            share = float(alone.sum()) / (workers * groups)
            within_share = np.maximum(1, ((share - self.cost.run) / (alone - self.cost.run)).astype(np.int64))
            yield np.minimum(most_rows, within_share)
            if np.all(most_rows <= within_share):  # a larger share changes nothing
                return

    def group_times(self, longest_first: Integers) -> GroupTimes:
        """Predicts groups of neighbours: a function of the first pair and of the most pairs.

        It gives where the groups worth trying end, and their seconds.

        Args:
            longest_first: tokens of each pair, descending, int64 (n,).
        """
        rows = np.arange(1, len(longest_first) + 1)
        return lambda start, most: (
            slice(start + 1, start + most + 1),
            self.cost.seconds(rows[:most], int(longest_first[start])),
        )

    def sizes(self, longest_first: Integers, bounds: Integers) -> Sizes:
        """Sizes of the batches between bounds.

        Args:
            longest_first: tokens of each pair, descending, int64 (n,).
            bounds: where batches begin and end, int64 (g + 1,), from 0 to n.

        Returns:
            Tokens of a row, predicted seconds, and tokens that the layers compute, each (g,).
        """
        rows, length = np.diff(bounds), longest_first[bounds[:-1]]
        return length, self.cost.seconds(rows, length), rows * length

    def joined(self, run: RunSize, other: RunSize) -> RunSize:
        """The size of two batches as one run."""
        rows, length = run.rows + other.rows, max(run.length, other.length)
        return RunSize(rows, length, self.cost.seconds(rows, length), rows * length)


class SinglePairs(BatchKind):
    """One pair a run."""

    name = "single"
    shares_runs = mixes_lengths = False

    def most_rows(self, longest_first: Integers) -> Integers:
        """One of each."""
        return np.ones_like(longest_first)

    def may_join(self, run: RunSize, other: RunSize) -> bool:  # noqa: ARG002
        """Never."""
        return False


class EqualLengths(BatchKind):
    """Pairs of one length.

    Attributes:
        mixed_rows: how many pairs of several lengths a run may hold.
    """

    name: ClassVar[Batching] = "equal_length"
    mixes_lengths = False
    mixed_rows: ClassVar[int] = 1

    def most_rows(self, longest_first: Integers) -> Integers:
        """Those of its length from here on, or `mixed_rows`, within the budget."""
        ends = np.searchsorted(-longest_first, -longest_first, side="right")
        equal: Integers = np.maximum(ends - np.arange(len(longest_first)), self.mixed_rows)
        return np.minimum(super().most_rows(longest_first), equal)

    def may_join(self, run: RunSize, other: RunSize) -> bool:
        """Where lengths are equal."""
        return run.length == other.length and super().may_join(run, other)


class PaddedPairs(BatchKind):
    """Any pairs, filled up to the longest."""

    name = "padded"
    pads = True


class PackedPairs(EqualLengths):
    """Pairs of one length, or a few of any lengths, without padding.

    Pairs of different lengths take longer (`CostModel.packing`), because attention splits them.
    """

    name = "packed"
    mixes_lengths = True
    mixed_rows = PACKED_ROWS

    def group_times(self, longest_first: Integers) -> GroupTimes:
        """The time of every pair without padding, longer where lengths differ."""
        before = np.concatenate([[0.0], np.cumsum(self.cost.seconds(1, longest_first) - self.cost.run)])

        def times(start: int, most: int) -> tuple[slice, Floats]:
            end = start + most
            uneven = longest_first[start] != longest_first[start:end]
            pairs = before[start + 1 : end + 1] - before[start]
            return slice(start + 1, end + 1), self.cost.run + pairs * self._slower(uneven)

        return times

    def sizes(self, longest_first: Integers, bounds: Integers) -> Sizes:
        """As `BatchKind.sizes`, without padding."""
        starts = bounds[:-1]
        pairs = np.add.reduceat(self.cost.seconds(1, longest_first) - self.cost.run, starts)
        seconds = self.cost.run + pairs * self._slower(longest_first[starts] != longest_first[bounds[1:] - 1])
        return longest_first[starts], seconds, np.add.reduceat(longest_first, starts)

    def may_join(self, run: RunSize, other: RunSize) -> bool:
        """A few, within the budget."""
        return run.rows + other.rows <= self.mixed_rows and BatchKind.may_join(self, run, other)

    def joined(self, run: RunSize, other: RunSize) -> RunSize:
        """The pairs of both, without padding."""
        slower = 1 + self.cost.packing * (run.length != other.length)
        seconds = self.cost.run + (run.seconds + other.seconds - 2 * self.cost.run) * slower
        tokens = run.run_tokens + other.run_tokens
        return RunSize(run.rows + other.rows, max(run.length, other.length), seconds, tokens)

    def _slower(self, uneven: npt.NDArray[np.bool_]) -> Floats:
        return np.where(uneven, 1 + self.cost.packing, 1.0)


@dataclass(frozen=True)
class GridShapes(BatchKind):
    """Any pairs, filled up to a shape of a grid: captured CUDA graphs have fixed shapes.

    Rows are padded to a power of two, so every batch but the last should fill its shape with pairs: that costs it
    nothing, and the batches after it shrink. So only the powers of two are tried as its size.
    """

    grid: ShapeGrid
    name = "padded"
    pads = True

    def most_rows(self, longest_first: Integers) -> Integers:
        """The rows of the largest shape of its length."""
        lengths = longest_first.tolist()
        most = {length: self.grid.most_rows(length) for length in set(lengths)}
        return np.asarray([most[length] for length in lengths])

    def row_limits(self, longest_first: Integers, workers: int) -> Iterator[Integers]:
        """With several devices none gets more than its share of the pairs, padded."""
        share = -(-len(longest_first) // workers)
        on_grid = longest_first <= self.grid.lengths[-1]
        yield np.minimum(self.most_rows(longest_first), np.where(on_grid, 1 << (share - 1).bit_length(), share))

    def group_times(self, longest_first: Integers) -> GroupTimes:
        """Times of the padded shapes."""
        known: dict[int, tuple[list[int], list[float]]] = {}
        lengths = [self.grid.padded_length(length) for length in longest_first.tolist()]

        def times(start: int, most: int) -> tuple[list[int], list[float]]:
            if (length := lengths[start]) not in known:
                largest = self.grid.most_rows(length)
                powers = [1 << power for power in range(largest.bit_length())]
                rows = powers if length in self.grid.lengths else list(range(1, largest + 1))
                known[length] = rows, [self.cost.seconds(row, length) for row in rows]
            rows, seconds = known[length]
            tried = bisect_left(rows, most) + 1
            return [start + min(row, most) for row in rows[:tried]], seconds[:tried]

        return times

    def sizes(self, longest_first: Integers, bounds: Integers) -> Sizes:
        """Sizes of the padded shapes."""
        shapes = zip(np.diff(bounds).tolist(), longest_first[bounds[:-1]].tolist(), strict=True)
        rows, length = np.asarray([self.grid.padded(*shape) for shape in shapes]).T
        return length, self.cost.seconds(rows, length), rows * length

    def fits(self, rows: int, length: int) -> bool:
        """Within the largest shape of a length."""
        return rows <= self.grid.most_rows(length)

    def joined(self, run: RunSize, other: RunSize) -> RunSize:
        """The shape that holds both."""
        rows = run.rows + other.rows
        shape = self.grid.padded(rows, max(run.length, other.length))
        return RunSize(rows, shape.length, self.cost.seconds(*shape), shape.tokens)


KINDS: dict[Batching, type[BatchKind]] = {
    kind.name: kind for kind in (SinglePairs, EqualLengths, PaddedPairs, PackedPairs)
}
"""The kinds by the manifest's names, of runs that have the shape of their pairs."""
