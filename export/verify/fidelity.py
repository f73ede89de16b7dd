"""How well one set of logits keeps the ranking of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossrank.errors import FidelityError
from crossrank.models.manifest import Fidelity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TOP = 10
"""How many of a ranking's first documents the overlap looks at."""


def kendall_tau(left: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    """Kendall's tau-b between two score lists: 1 for the same order, -1 for the reverse, ties counted out.

    tau-b = (concordant - discordant) / sqrt((n0 - ties in left) * (n0 - ties in right)) with n0 = n (n - 1) / 2
    (M. Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945). All pairs are compared at
    once, which for the tens of documents of a query is less work than sorting.

    Args:
        left: scores, shape (n,).
        right: scores of the same things, shape (n,).

    Returns:
        The coefficient. Fewer than two items, or no order in either list, agree: 1. An order in one list alone: 0.
    """
    first, second = np.triu_indices(len(left), k=1)
    signs_left = np.sign(np.subtract(left[first], left[second], dtype=np.float64))
    signs_right = np.sign(np.subtract(right[first], right[second], dtype=np.float64))
    ordered_left, ordered_right = np.count_nonzero(signs_left), np.count_nonzero(signs_right)
    if ordered_left == 0 and ordered_right == 0:
        return 1.0
    if ordered_left == 0 or ordered_right == 0:
        return 0.0
    return float(np.dot(signs_left, signs_right) / np.sqrt(float(ordered_left) * float(ordered_right)))


def top_overlap(reference: NDArray[np.floating], scores: NDArray[np.floating], *, top: int = TOP) -> float:
    """Share of the reference's first documents that are among the scores' first (ties by position).

    Args:
        reference: scores, shape (n,).
        scores: scores of the same documents, shape (n,).
        top: how many count as first; all of them where there are fewer.
    """
    top = min(top, len(reference))
    if top == 0:
        return 1.0
    first_of_reference = np.argsort(-reference, kind="stable")[:top]
    first_of_scores = np.argsort(-scores, kind="stable")[:top]
    return len(np.intersect1d(first_of_reference, first_of_scores)) / top


def measure(
    reference: Sequence[NDArray[np.floating]], runs: Sequence[Sequence[NDArray[np.floating]]], *, name: str
) -> Fidelity:
    """Compare the logits of a graph with those of its reference.

    Args:
        reference: one array (n,) of logits a query.
        runs: one or several runs of the graph over the same queries (single pairs, padded batches).
        name: what the reference is: "pytorch", "fp32" or "self".

    Returns:
        The worst figures of the runs, rounded to six significant digits so that a manifest is reproducible.

    Raises:
        FidelityError: a logit is NaN or infinite.
    """
    taus, overlaps, differences = [], [], []
    for run in runs:
        matched = list(zip(reference, run, strict=True))
        taus.append(np.mean([kendall_tau(expected, logits) for expected, logits in matched]))
        overlaps.append(np.mean([top_overlap(expected, logits) for expected, logits in matched]))
        differences.append(max(_largest_difference(expected, logits) for expected, logits in matched))
    return Fidelity(
        reference=name,
        queries=len(reference),
        pairs=sum(len(logits) for logits in reference),
        max_abs_logit_difference=significant(max(differences)),
        kendall_tau=significant(float(min(taus))),
        top10_overlap=significant(float(min(overlaps))),
    )


def significant(value: float, digits: int = 6) -> float:
    """A number rounded to so many significant digits."""
    return float(f"{value:.{digits}g}")


def _largest_difference(left: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    """Largest |left - right|; 0 where there is nothing to compare."""
    differences = np.abs(np.subtract(left, right, dtype=np.float64))
    if not np.isfinite(differences).all():
        raise FidelityError("a graph or its reference gives logits that are no numbers on the verification pairs")
    return float(differences.max(initial=0.0))
