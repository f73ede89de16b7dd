"""CUDA graphs and fixed buffers: whether replayed runs score as others do, and nothing of an earlier run is left over.

What compares captured with uncaptured runs exists on CUDA alone. New texts in shapes that were used before are checked
on the CPU too, where they should be no matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.self_check.differences import COMPANY, relative_difference
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
"""What it says where shapes lost their buffers."""
_REPEATS = 5
_ROWS = 4
_SHORTER = 3
"""Tokens that pairs are shorter by which have to leave no trace of the longer ones before them."""


def check_capture(subject: Subject, precision: Precision) -> CheckResult:
    """Score the same pairs with CUDA graphs and without; calls repeated with them are the same to the last bit.

    Args:
        subject: what is checked.
        precision: of the graph.

    Raises:
        CrossrankError: the engine failed.
    """
    if subject.provider != "cuda":
        return CheckResult(CAPTURE, None, f"there are no CUDA graphs on provider {subject.provider!r}", {}, precision)
    query, documents = subject.texts.query, subject.texts.mixed(_DOCUMENTS)
    with subject.engine(precision, cuda_graphs=True) as engine:
        captured = engine.score(query, documents)
        repeated = [engine.score(query, documents) for _ in range(_REPEATS)]
        state = _graphs_of(engine)
    with subject.engine(precision, cuda_graphs=False) as engine:
        uncaptured = engine.score(query, documents)
        other_state = _graphs_of(engine)
    tolerance = COMPANY[precision]
    difference = max(relative_difference(scores, uncaptured) for scores in (captured, *repeated))
    changed = sum(not np.array_equal(scores, captured) for scores in repeated)
    figures = {
        "documents": len(documents),
        "difference": difference,
        "tolerance": tolerance,
        "repeats": _REPEATS,
        "repeats_that_differ": changed,
        "captured": state,
        "uncaptured": other_state,
    }
    if state.startswith(_NOTHING_CAPTURED) or _SOME_FAILED in state:
        words = f"CUDA graphs were asked for, and: {state}"
        return CheckResult(CAPTURE, False, words, figures, precision)
    detail = (
        f"{len(documents)} documents: difference {difference:.2g} between runs with CUDA graphs ({state}) and without, "
        f"{tolerance:g} allowed; {changed} of {_REPEATS} repeated calls differ, none may"
    )
    return CheckResult(CAPTURE, difference <= tolerance and not changed, detail, figures, precision)


def check_new_texts(subject: Subject, precision: Precision) -> CheckResult:
    """Score other texts of the same shapes after the first; an engine that never saw the first agrees.

    After each set of pairs come others of the same length, then fewer and shorter ones, then the others again, so that
    a buffer that is not filled anew, or whose end is not cleared, shows.

    Args:
        subject: what is checked.
        precision: of the graph.

    Raises:
        CrossrankError: the engine failed.
    """
    query = subject.texts.query
    worst: dict[int, dict[str, float]] = {}
    with subject.engine(precision) as used, subject.engine(precision) as fresh:
        for length in subject.texts.grid_lengths():
            documents = subject.texts.of_lengths([length] * (2 * _ROWS))
            first, second = documents[:_ROWS], documents[_ROWS:]
            shorter = subject.texts.shortened(length, _SHORTER, _ROWS - 1)
            used.score(query, first)
            found = used.score(query, second)
            found_shorter = used.score(query, shorter)
            again = used.score(query, second)
            # Shorter ones first: no longer pairs have been in this engine's buffers of the shape.
            expected_shorter, expected = fresh.score(query, shorter), fresh.score(query, second)
            worst[length] = {
                "new_texts": relative_difference(found, expected),
                "fewer_and_shorter": relative_difference(found_shorter, expected_shorter),
                "again": relative_difference(again, expected),
            }
    tolerance = COMPANY[precision]
    largest = max(value for found in worst.values() for value in found.values())
    wrong = [str(length) for length, found in worst.items() if max(found.values()) > tolerance]
    figures: dict[str, Any] = {"lengths": {str(length): found for length, found in worst.items()}}
    figures |= {"rows": _ROWS, "tolerance": tolerance}
    detail = (
        f"{len(worst)} lengths, {_ROWS} pairs each: largest difference {largest:.2g} to an engine that saw no other "
        f"texts before, {tolerance:g} allowed"
    )
    if wrong:
        detail += f"; wrong at {', '.join(wrong)} tokens"
    return CheckResult(NEW_TEXTS, not wrong, detail, figures, precision)


def _graphs_of(engine: Engine) -> str:
    return str(getattr(engine.info(), "cuda_graphs", None))
