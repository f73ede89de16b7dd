"""What an evaluation gives: every model's rankings, measures, times and its comparison with the first model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.evaluation.measures import GAIN_FORMULAS
from crossrank.evaluation.significance import RESAMPLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossrank.evaluation.measures import Gain
    from crossrank.evaluation.significance import Comparison

_PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class EvaluatedModel:
    """One model's rankings, judged.

    Attributes:
        name: as given, with the precision where several were asked for.
        precision: of the graph that ran; empty for the first stage.
        digest: of the model and the options that its scores and times depend on; empty for the first stage.
        rankings: query identifier to (document identifier, score), best first.
        values: measure to {query: value}.
        seconds: of each query's call, texts to scores, in the queries' order; none for the first stage.
        kept: queries that an earlier evaluation had scored; their times are from then.
        comparisons: measure to the comparison with the first model; empty for that one itself.
        kendall_tau: mean over the queries of tau-b with the first model's scores; None for that one itself.
        top10_overlap: mean share of the first model's first ten that are among this one's; None likewise.
    """

    name: str
    precision: str
    digest: str
    rankings: dict[str, tuple[tuple[str, float], ...]]
    values: dict[str, dict[str, float]]
    seconds: tuple[float, ...]
    kept: int
    comparisons: Mapping[str, Comparison]
    kendall_tau: float | None
    top10_overlap: float | None

    def means(self) -> dict[str, float]:
        """Each measure's mean over the queries."""
        return {name: float(np.mean(list(values.values()))) for name, values in self.values.items()}

    def latency(self) -> dict[str, float]:
        """Seconds a query: p50, p90 and p99; nothing for the first stage."""
        if not self.seconds:
            return {}
        values = np.percentile(self.seconds, _PERCENTILES).tolist()
        return {f"p{percentile}": value for percentile, value in zip(_PERCENTILES, values, strict=True)}

    def as_json(self) -> dict[str, Any]:
        """Everything but the rankings, for a result file."""
        return {
            "name": self.name,
            "precision": self.precision,
            "digest": self.digest,
            "means": self.means(),
            "values": self.values,
            "latency": self.latency(),
            "seconds": list(self.seconds),
            "kept": self.kept,
            "comparisons": {name: asdict(own) for name, own in self.comparisons.items()},
            "kendall_tau": self.kendall_tau,
            "top10_overlap": self.top10_overlap,
        }


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gave.

    Attributes:
        collection: its name.
        digest: of the queries, the candidates' texts and the judgements that were used.
        queries: identifiers of the queries that were judged.
        unjudged: queries of the collection left out because nothing is judged for them.
        without_candidates: judged queries left out because the run has no documents for them.
        depth: candidates of a query at most.
        candidates: of all queries together.
        gain: what a document of a grade is worth to nDCG.
        measures: the first is the one that the report's comparison is about.
        seed: of the significance test.
        models: the first stage, then the models in the order given.
    """

    collection: str
    digest: str
    queries: tuple[str, ...]
    unjudged: int
    without_candidates: int
    depth: int
    candidates: int
    gain: Gain
    measures: tuple[str, ...]
    seed: int
    models: tuple[EvaluatedModel, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything but the rankings, for a result file."""
        return {
            "collection": self.collection,
            "collection_sha256": self.digest,
            "queries": len(self.queries),
            "unjudged": self.unjudged,
            "without_candidates": self.without_candidates,
            "depth": self.depth,
            "candidates": self.candidates,
            "gain": self.gain,
            "gain_formula": GAIN_FORMULAS[self.gain],
            "measures": list(self.measures),
            "test": {"name": "paired randomization test", "resamples": RESAMPLES, "seed": self.seed},
            "models": [model.as_json() for model in self.models],
        }
