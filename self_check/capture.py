"""CUDA graphs and fixed buffers: whether replayed runs give the same scores, and no data of an earlier run remains.

Captured and uncaptured runs are compared on CUDA only. New texts in shapes that were used before are checked on the CPU
too, although it has no fixed buffers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.self_check.differences import BATCH_TOLERANCE, relative_difference
from crossrank.self_check.result import CheckResult

if TYPE_CHECKING:
    from crossrank.models.manifest import Precision
    from crossrank.self_check.subject import Engine, Subject

CAPTURE = "captured and uncaptured"
NEW_TEXTS = "new texts in used shapes"
_DOCUMENTS = 32
_NOTHING_CAPTURED = ("not captured", "off", "0 of")
"""How `info().cuda_graphs` begins where no run was captured."""
_SOME_FAILED = "because runs failed"
"""What `info().cuda_graphs` contains where shapes lost their buffers."""
_REPEATS = 5
_ROWS = 4
_SHORTER = 3
"""By how many tokens the shorter pairs are shorter: nothing of the longer pairs before them may remain in a buffer."""


def check_capture(subject: Subject, precision: Precision) -> CheckResult:
    """Score the same pairs with CUDA graphs and without; repeated calls with CUDA graphs must agree to the last bit."""
    if subject.provider != "cuda":
        return CheckResult(CAPTURE, None, f"there are no CUDA graphs on provider {subject.provider!r}", {}, precision)
    query, documents = subject.texts.query, subject.texts.mixed(_DOCUMENTS)
    with subject.engine(precision, cuda_graphs=True) as engine:
        captured = engine.score(query, documents)
        repeated = [engine.score(query, documents) for _ in range(_REPEATS)]
        state = _cuda_graphs(engine)
    with subject.engine(precision, cuda_graphs=False) as engine:
        uncaptured = engine.score(query, documents)
        uncaptured_state = _cuda_graphs(engine)
    tolerance = BATCH_TOLERANCE[precision]
    difference = max(relative_difference(scores, uncaptured) for scores in (captured, *repeated))
    changed = sum(not np.array_equal(scores, captured) for scores in repeated)
    figures = {
        "documents": len(documents),
        "difference": difference,
        "tolerance": tolerance,
        "repeats": _REPEATS,
        "repeats_that_differ": changed,
        "captured": state,
        "uncaptured": uncaptured_state,
    }
    if state.startswith(_NOTHING_CAPTURED) or _SOME_FAILED in state:
        detail = f"CUDA graphs were requested; the engine reports: {state}"
        return CheckResult(CAPTURE, False, detail, figures, precision)
    detail = (
        f"{len(documents)} documents: difference {difference:.2g} between runs with CUDA graphs ({state}) and without, "
        f"{tolerance:g} allowed; {changed} of {_REPEATS} repeated calls differ, none may"
    )
    return CheckResult(CAPTURE, difference <= tolerance and not changed, detail, figures, precision)


def check_new_texts(subject: Subject, precision: Precision) -> CheckResult:
    """Score new texts in shapes that the engine has used before; an engine that never used them must agree.

    For each length: one set of pairs, a second set of the same length, fewer and shorter pairs, and the second set
    again. A buffer that is not refilled, or whose end is not cleared, changes one of these scores.
    """
    query = subject.texts.query
    differences: dict[int, dict[str, float]] = {}
    with subject.engine(precision) as used, subject.engine(precision) as fresh:
        for length in subject.texts.grid_lengths():
            documents = subject.texts.of_lengths([length] * (2 * _ROWS))
            first, second = documents[:_ROWS], documents[_ROWS:]
            shorter = subject.texts.shortened(length, _SHORTER, _ROWS - 1)
            used.score(query, first)
            scores = used.score(query, second)
            shorter_scores = used.score(query, shorter)
            repeated_scores = used.score(query, second)
            # The shorter pairs first, so that this engine's buffers of the shape have never held longer ones.
            expected_shorter, expected = fresh.score(query, shorter), fresh.score(query, second)
            differences[length] = {
                "new_texts": relative_difference(scores, expected),
                "fewer_and_shorter": relative_difference(shorter_scores, expected_shorter),
                "again": relative_difference(repeated_scores, expected),
            }
    tolerance = BATCH_TOLERANCE[precision]
    largest_of = {length: max(of_length.values()) for length, of_length in differences.items()}
    wrong = [str(length) for length, largest in largest_of.items() if largest > tolerance]
    figures: dict[str, Any] = {"lengths": {str(length): of_length for length, of_length in differences.items()}}
    figures |= {"rows": _ROWS, "tolerance": tolerance}
    detail = (
        f"{len(differences)} lengths, {_ROWS} pairs each: largest difference {max(largest_of.values()):.2g} to an "
        f"engine that scored no other texts before, {tolerance:g} allowed"
    )
    if wrong:
        detail += f"; wrong at {', '.join(wrong)} tokens"
    return CheckResult(NEW_TEXTS, not wrong, detail, figures, precision)


def _cuda_graphs(engine: Engine) -> str:
    return str(getattr(engine.info(), "cuda_graphs", None))
