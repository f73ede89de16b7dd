"""Measures of ranking quality, computed by ir-measures.

ir-measures orders by score and breaks ties its own way, which differs between the tools behind it. Rankings are
therefore handed over with their ranks as scores, so that the order judged is the order given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from crossrank.errors import InvalidInputError
from crossrank.evaluation.dependencies import require_ir_measures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Gain = Literal["linear", "exponential"]
"""What a document of a grade is worth to nDCG: the grade (Järvelin and Kekäläinen, TOIS 2002; trec_eval and BEIR), or
2^grade - 1 (Burges et al., ICML 2005)."""

GAIN_FORMULAS: dict[Gain, str] = {"linear": "grade", "exponential": "2^grade - 1"}
DEFAULT_MEASURES = ("nDCG@10", "MRR@10", "Recall@10")
CUTOFF = 10
_NAMES = ("nDCG", "RR", "R", "AP", "P", "Success", "Rprec")
"""What ir-measures calls the measures that may be asked for; MRR is RR, Recall is R. All are larger for the better."""

_LARGEST_GAIN = 2**16 - 1
"""trec_eval's tables have an entry for every grade up to the largest."""


def check_measures(names: Sequence[str], gain: Gain) -> None:
    """Refuse measures that cannot be computed, before anything is scored.

    Args:
        names: as ir-measures writes them, 'nDCG@10' or 'RR(rel=2)@10'.
        gain: of every nDCG among them.

    Raises:
        InvalidInputError: a measure or the gain is not known, or none is given.
        MissingDependencyError: ir-measures is not installed.
    """
    require_ir_measures()
    if gain not in get_args(Gain):
        raise InvalidInputError(f"gain {gain!r}: one of {', '.join(get_args(Gain))} expected")
    if not names or isinstance(names, str):
        raise InvalidInputError(f"measures={names!r}: a list of one or more such as nDCG@10 expected")
    for name in names:
        _parsed(name)


def values_per_query(
    names: Sequence[str],
    judged: Mapping[str, Mapping[str, int]],
    rankings: Mapping[str, Sequence[str]],
    *,
    gain: Gain,
) -> dict[str, dict[str, float]]:
    """Every measure's value for every query that has a ranking; 0 where nothing relevant is judged.

    Args:
        names: measures as for `check_measures`.
        judged: query identifier to {document identifier: grade}; grades below 0 count as 0.
        rankings: query identifier to document identifiers, best first.
        gain: of nDCG.

    Returns:
        Measure to {query: value}.

    Raises:
        InvalidInputError: a measure is not known, or a grade is too large.
        MissingDependencyError: ir-measures is not installed.
    """
    require_ir_measures()
    import ir_measures
    from ir_measures import Qrel, ScoredDoc, nDCG

    grades = {grade for own in judged.values() for grade in own.values() if grade > 0}
    largest = max(grades, default=0)
    if largest > (_LARGEST_GAIN if gain == "linear" else _LARGEST_GAIN.bit_length()):
        raise InvalidInputError(
            f"grade {largest} with {gain} gain is worth {GAIN_FORMULAS[gain]}; at most {_LARGEST_GAIN} expected"
        )
    measures = {name: _parsed(name) for name in names}
    if gain == "exponential":
        gains = {grade: 2**grade - 1 for grade in grades}
        measures = {
            name: nDCG(**measure.params, gains=gains) if measure.NAME == "nDCG" else measure
            for name, measure in measures.items()
        }
    qrels = [Qrel(query, name, max(grade, 0)) for query, own in judged.items() for name, grade in own.items()]
    run = [ScoredDoc(query, name, -float(rank)) for query, own in rankings.items() for rank, name in enumerate(own)]
    values: dict[str, dict[str, float]] = {name: dict.fromkeys(rankings, 0.0) for name in names}
    for metric in ir_measures.iter_calc(list(dict.fromkeys(measures.values())), qrels, run):
        for name, measure in measures.items():
            if measure == metric.measure:
                values[name][metric.query_id] = float(metric.value)
    return values


def ndcg_per_query(judged: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """nDCG@10 with gains 2^grade - 1 of each query that has a ranking; see `values_per_query`."""
    name = f"nDCG@{CUTOFF}"
    return values_per_query([name], judged, rankings, gain="exponential")[name]


def ndcg(judged: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]]) -> float:
    """Mean nDCG@10 with gains 2^grade - 1 over the queries that have a ranking."""
    return float(np.mean(list(ndcg_per_query(judged, rankings).values())))


def _parsed(name: str) -> Any:
    import ir_measures

    try:
        measure = ir_measures.parse_measure(name)
        known = (
            measure.NAME in _NAMES
            and not {"gains", "dcg"} & measure.params.keys()
            and measure.params.get("cutoff", 1) >= 1
            and ir_measures.DefaultPipeline.supports(measure)
        )
    except (ValueError, NameError, AssertionError, TypeError, AttributeError):
        known = False
    if not known:
        raise InvalidInputError(
            f"measure {name!r}: nDCG@10, MRR@10, Recall@10, AP, P@10, Success@10 or Rprec expected, with any cutoff, "
            "and with the lowest relevant grade as in RR(rel=2)@10; what a grade is worth to nDCG is said by the gain"
        )
    return measure
