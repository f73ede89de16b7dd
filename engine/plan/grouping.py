"""Which batches of different requests share a run.

The planner makes the batches of each request separately. When one is about to run, waiting batches of other requests
may join it if the graph allows their rows in one run, if the token budget allows it, and if it saves time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.models.manifest import PACKED_ROWS

if TYPE_CHECKING:
    from crossrank.engine.plan.cost import CostModel
    from crossrank.engine.plan.shape_grid import ShapeGrid
    from crossrank.models.manifest import Batching


@dataclass(frozen=True)
class Grouping:
    """Rules for joining batches into one run.

    Attributes:
        batching: what the graph allows: 'single' is one pair a run; 'padded' any pairs, padded to the longest;
            'packed' up to `PACKED_ROWS` pairs of any lengths without padding, and more of one length; 'equal_length'
            only pairs of the same length.
        cost: predicts the time of a run.
        max_batch_tokens: tokens of a run at most, padding included.
        grid: the shapes that runs are padded to; None where a run has the shape of its pairs.
    """

    batching: Batching
    cost: CostModel
    max_batch_tokens: int
    grid: ShapeGrid | None = None

    @property
    def shares_runs(self) -> bool:
        """Whether a run may hold more than one pair."""
        return self.batching != "single"

    def seconds(self, rows: int, length: int) -> float:
        """Predicted time of a run: the formula of `CostModel.seconds`, faster because it takes no arrays."""
        cost = self.cost
        if self.grid is not None:
            rows, length = self.grid.padded(rows, length)
        return cost.run + rows * (cost.row + length * (cost.token + cost.token_squared * length))

    def joined_seconds(self, seconds: float, other_seconds: float, rows: int, length: int, *, even: bool) -> float:
        """Predicted time of two batches as one run.

        Args:
            seconds: predicted time of the first batch alone.
            other_seconds: predicted time of the second batch alone.
            rows: pairs in both together.
            length: tokens of the longest pair.
            even: whether the longest pairs of the two batches have the same length.
        """
        if self.batching != "packed":
            return self.seconds(rows, length)
        run = self.cost.run
        return run + (seconds + other_seconds - 2 * run) * (1.0 if even else 1 + self.cost.packing)

    def run_tokens(self, rows: int, length: int, tokens: int) -> int:
        """Tokens that the layers compute in a run, padding included; a packed graph has no padding."""
        return tokens if self.batching == "packed" else rows * length

    def may_share(self, length: int, rows: int, other_length: int, other_rows: int) -> bool:
        """Whether two batches may be one run."""
        if not self.shares_runs or (self.batching == "equal_length" and other_length != length):
            return False
        rows, length = rows + other_rows, max(length, other_length)
        if self.batching == "packed" and rows > PACKED_ROWS:
            return False
        if self.grid is not None and self.grid.padded_length(length) in self.grid.lengths:
            return rows <= self.grid.most_rows(length)
        return rows * length <= self.max_batch_tokens

    @staticmethod
    def pays(alone: float, other: float, joined: float, waiting: int) -> bool:
        """Whether joining saves the waiting requests more than it costs the one that would have run alone.

        One run instead of two saves a run's fixed cost, minus what padding adds, for every request that waits. The
        request whose turn it is waits longer, because its run has more rows.

        Args:
            alone: predicted seconds of the batch whose turn it is.
            other: predicted seconds of the batch that might join.
            joined: predicted seconds of both as one run.
            waiting: how many other requests wait.
        """
        return (alone + other - joined) * waiting >= joined - alone
