"""Whether two models differ by more than chance would have them differ on these queries.

The test is the paired randomization test (Fisher): were the models alike, each query's difference could as well have
the other sign, so the observed mean difference is compared with those of random signs. It supposes no distribution, and
among the usual tests it is the one Smucker, Allan and Carterette recommend ("A comparison of statistical significance
tests for information retrieval evaluation", CIKM 2007). scipy goes through all signs where they are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.evaluation.dependencies import require_scipy

if TYPE_CHECKING:
    import numpy.typing as npt

RESAMPLES = 9999
"""Random signs tried; up to 13 queries have fewer, and all of them are tried."""

_BATCH = 500

_DECIMALS = 12
"""Means are compared rounded to this: equal sums of differences in another order differ in their last bits."""


@dataclass(frozen=True)
class Comparison:
    """A model beside the reference, in one measure.

    Attributes:
        difference: mean of the model's values less the reference's.
        p_value: two-sided; of one comparison, not corrected for making several.
        better: queries in which the model's value is higher.
        worse: queries in which it is lower.
    """

    difference: float
    p_value: float
    better: int
    worse: int


def _rounded_mean(differences: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    means: npt.NDArray[np.float64] = np.mean(differences, axis=axis)
    return means.round(_DECIMALS)


def compare_paired(own: npt.NDArray[np.float64], reference: npt.NDArray[np.float64], *, seed: int = 0) -> Comparison:
    """Compare two models' values of the same queries.

    Args:
        own: float64 (queries,).
        reference: float64 (queries,).
        seed: of the random signs.

    Raises:
        MissingDependencyError: scipy is not installed.
    """
    require_scipy()
    from scipy.stats import permutation_test

    differences = own - reference
    p_value = 1.0
    if differences.any() and len(differences) > 1:  # scipy takes two or more; one says nothing
        test = permutation_test(
            (differences,),
            _rounded_mean,
            permutation_type="samples",
            n_resamples=RESAMPLES,
            batch=_BATCH,
            vectorized=True,
            rng=np.random.default_rng(seed),
        )
        p_value = float(test.pvalue)
    return Comparison(
        difference=float(differences.mean()),
        p_value=p_value,
        better=int(np.count_nonzero(differences > 0)),
        worse=int(np.count_nonzero(differences < 0)),
    )
