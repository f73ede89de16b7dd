"""Whether a pair's score is independent of the other pairs of its batch, of their order, and of concurrent callers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from crossrank.self_check.differences import BATCH_TOLERANCE, relative_difference, spread
from crossrank.self_check.result import CheckResult

if TYPE_CHECKING:
    from crossrank.models.manifest import Precision
    from crossrank.self_check.subject import Subject

BATCHING = "scores in a batch"
CALLERS = "concurrent callers"
_DOCUMENTS = 24
_THREADS = 8
_DOCUMENTS_PER_THREAD = 6
_ROUNDS = 3
_CALLERS_LONGEST = 128
"""Tokens of the callers' pairs: the check needs many calls at once, not long ones."""
_MIN_SPREAD = 4
"""If all logits lie within this many tolerances of each other, a row in the wrong place would not be noticed."""


def check_batching(subject: Subject, precision: Precision) -> CheckResult:
    """Score documents one by one, in one call, and in one call in another order, and compare the scores."""
    query, documents = subject.texts.query, subject.texts.mixed(_DOCUMENTS)
    order = np.random.default_rng(0).permutation(len(documents))
    with subject.engine(precision) as engine:
        alone = np.concatenate([engine.score(query, [document]) for document in documents])
        together = engine.score(query, documents)
        shuffled = engine.score(query, [documents[index] for index in order])
    tolerance = BATCH_TOLERANCE[precision]
    in_batch = relative_difference(together, alone)
    reordered = relative_difference(shuffled, alone[order])
    figures = {
        "documents": len(documents),
        "together": in_batch,
        "in_another_order": reordered,
        "tolerance": tolerance,
        "spread": spread(alone),
    }
    allowed = f"{tolerance:g} allowed" if tolerance else "none allowed"
    detail = (
        f"{len(documents)} documents alone and together: difference {in_batch:.2g}, in another order {reordered:.2g}; "
        f"{allowed}"
    )
    passed: bool | None = max(in_batch, reordered) <= tolerance
    if passed and spread(alone) <= _MIN_SPREAD * tolerance:
        passed, detail = None, f"all logits lie within {spread(alone):.2g}: rows in a wrong order would not show"
    return CheckResult(BATCHING, passed, detail, figures, precision)


def check_callers(subject: Subject, precision: Precision) -> CheckResult:
    """Score different documents from several threads at once; each thread must get the scores of a call made alone."""
    query = subject.texts.query
    documents = subject.texts.mixed(_THREADS * _DOCUMENTS_PER_THREAD, longest=_CALLERS_LONGEST)
    shares = [documents[index::_THREADS] for index in range(_THREADS)]
    start = threading.Barrier(_THREADS)
    with subject.engine(precision) as engine, ThreadPoolExecutor(_THREADS) as pool:
        alone = [engine.score(query, share) for share in shares]

        def call(index: int) -> float:
            start.wait()
            return max(relative_difference(engine.score(query, shares[index]), alone[index]) for _ in range(_ROUNDS))

        differences = list(pool.map(call, range(_THREADS)))
    tolerance = BATCH_TOLERANCE[precision]
    wrong = sum(difference > tolerance for difference in differences)
    figures = {"threads": _THREADS, "calls_each": _ROUNDS, "differences": differences, "tolerance": tolerance}
    detail = (
        f"{_THREADS} threads at once, {_ROUNDS} calls of {_DOCUMENTS_PER_THREAD} documents each: largest difference "
        f"{max(differences):.2g} to the same call made alone, {tolerance:g} allowed"
    )
    if wrong:
        detail += f"; {wrong} threads got other scores"
    return CheckResult(CALLERS, not wrong, detail, figures, precision)
