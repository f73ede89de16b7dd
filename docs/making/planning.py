"""What padding costs, and what the planner makes of the same pairs: it is asked here, not imitated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from svg import Picture

from crossrank.engine.plan.batch_kinds import PaddedPairs
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.plan.planner import plan
from crossrank.models.artifact import Artifact
from crossrank.models.embedded import embedded_artifact

if TYPE_CHECKING:
    from collections.abc import Sequence

LENGTHS = (60, 410, 95, 130, 380, 70, 120, 66, 240, 100, 64, 250)
"""Tokens of twelve pairs in the order in which they come."""
_IN_ORDER, _ROW, _BUDGET = 4, 14, 512


def planned() -> list[list[int]]:
    """The batches of the planner for the embedded model's shape in float32, on two cores: pairs by their index."""
    cost = CostModel.of(Artifact.open(embedded_artifact()).manifest.architecture)
    batches = plan(np.asarray(LENGTHS, dtype=np.int64), PaddedPairs(cost, _BUDGET), 2)
    return [batch.indices.tolist() for batch in batches]


def computed(batches: Sequence[Sequence[int]]) -> int:
    """Tokens that are computed, padding included."""
    return sum(len(batch) * max(LENGTHS[pair] for pair in batch) for batch in batches)


def draw() -> Picture:
    """Draw both ways side by side: a row is a pair, striped is padding."""
    in_order = [range(start, start + _IN_ORDER) for start in range(0, len(LENGTHS), _IN_ORDER)]
    real = sum(LENGTHS)
    ways = (
        (24, "in the order they came, four at a time", in_order),
        (450, "sorted, and cut by predicted time", planned()),
    )
    told = ", ".join(f"{title}: {computed(batches)} tokens computed for {real}" for _, title, batches in ways)
    picture = Picture(860, 350, f"Twelve pairs of 60 to 410 tokens. {told}.")
    picture.text(24, 34, "Batches are planned, so little is computed that nobody asked for", "title")
    for left, title, batches in ways:
        picture.text(left, 64, title, "strong")
        y = 80.0
        for batch in batches:
            width = max(LENGTHS[pair] for pair in batch) * 0.9
            for pair in batch:
                own = LENGTHS[pair] * 0.9
                picture.box(left, y, own, _ROW - 2, "own")
                if own < width:
                    picture.box(left + own, y, width - own, _ROW - 2, "striped")
                y += _ROW
            y += 5
        more = computed(batches) / real - 1
        picture.text(left, 322, f"{computed(batches)} tokens computed for {real}: {more:.0%} more", "small strong")
    picture.text(
        24,
        340,
        "a row is a pair, striped is padding; a gap separates batches. int8 has no padding at all",
        "small soft",
    )
    return picture
