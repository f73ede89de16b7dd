"""Predicts time and quality of any cascade from scores and times that were measured once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from crossrank.benchmarks.cascade.tuning_figures import EarlyStage, Trial, TunedCollection
from crossrank.evaluation.measures import CUTOFF, ndcg_per_query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from crossrank.benchmarks.cascade.stage_scores import StageScores
    from crossrank.benchmarks.cascade.tuning_plan import Measure

_RESAMPLES = 1000
_LOW_PERCENTILE = 5


class Predictor:
    """Predicts time and quality of cascades on one collection.

    A chain is a tuple of (max_length, keep), one for every stage before the last, which is the full model.

    Attributes:
        name: of the collection.
    """

    def __init__(self, scores: StageScores, full_length: int, measure: Measure) -> None:
        """Rank the candidates at every length.

        Args:
            scores: of the collection's candidates.
            full_length: `max_length` of the full model, one of the lengths of `scores`.
            measure: of quality; a collection without judgements uses the overlap.
        """
        self._scores = scores
        self._full = full_length
        self.name = scores.name
        self._order = {length: np.argsort(-logits, kind="stable") for length, logits in scores.logits.items()}
        self._full_best = self._order[full_length][:, :CUTOFF]
        self._full_ndcg = self._ndcg_per_query(self._full_best) if scores.judged and measure == "ndcg" else None

    def describe(self) -> TunedCollection:
        """The collection, and the full model's quality and times on it."""
        return TunedCollection(
            self.name,
            len(self._scores.queries),
            None if self._full_ndcg is None else float(self._full_ndcg.mean()),
            self._scores.seconds,
            self._scores.encoding_seconds,
            self._scores.early_encoding_seconds,
        )

    def time_share(self, chain: Sequence[tuple[int, int]]) -> float:
        """Predicted share of the full model's time, encoding included in both."""
        counts = [len(self._order[self._full][0]), *(keep for _, keep in chain)]
        lengths = [*(length for length, _ in chain), self._full]
        encoding, early_encoding = self._scores.encoding_seconds, self._scores.early_encoding_seconds
        encoded = counts[0] * encoding if not early_encoding else counts[0] * early_encoding + counts[-1] * encoding
        scoring = sum(count * self._scores.seconds[length] for count, length in zip(counts, lengths, strict=True))
        return float((encoded + scoring) / (counts[0] * (encoding + self._scores.seconds[self._full])))

    def quality(self, chain: Sequence[tuple[int, int]]) -> tuple[float, float, float]:
        """Share of the full model's quality, its fifth percentile over resampled queries, and the overlap."""
        best = self._best_of(chain)
        common = [len(np.intersect1d(row, full_row)) for row, full_row in zip(best, self._full_best, strict=True)]
        values = np.asarray(common, dtype=np.float64)
        full_values = np.full(len(common), float(self._full_best.shape[1]))
        overlap = float(values.sum() / full_values.sum())
        if self._full_ndcg is not None:
            values, full_values = self._ndcg_per_query(best), self._full_ndcg
        sampled = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
        shares = values[sampled].sum(axis=1) / np.maximum(full_values[sampled].sum(axis=1), 1e-9)
        share = float(values.sum() / max(full_values.sum(), 1e-9))
        return share, float(np.percentile(shares, _LOW_PERCENTILE)), overlap

    def _best_of(self, chain: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
        """Indices of each query's first candidates after all stages, int64 (queries, at most 10)."""
        rows = []
        for row in range(len(self._scores.queries)):
            remaining = np.arange(self._order[self._full].shape[1])
            for length, keep in chain:
                logits = self._scores.logits[length][row][remaining]
                remaining = np.sort(remaining[np.argsort(-logits, kind="stable")[:keep]])
            logits = self._scores.logits[self._full][row][remaining]
            rows.append(remaining[np.argsort(-logits, kind="stable")[:CUTOFF]])
        return np.asarray(rows)

    def _ndcg_per_query(self, best: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        rankings = {
            query: [self._scores.candidates[query][index] for index in indices.tolist()]
            for query, indices in zip(self._scores.queries, best, strict=True)
        }
        ndcg_of = ndcg_per_query(self._scores.judged, rankings)
        return np.asarray([ndcg_of[query] for query in self._scores.queries])


def possible_chains(lengths: Sequence[int], keeps: Sequence[int], stages: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every chain of stages before the last; each stage reads more tokens than the one before and keeps fewer.

    Args:
        lengths: tokens of a pair, in ascending order.
        keeps: numbers of documents that a stage may keep.
        stages: largest number of stages, the last included.
    """
    for before_last in range(1, stages):
        for chosen in itertools.combinations(lengths, before_last):
            for counts in itertools.combinations(sorted(keeps, reverse=True), before_last):
                yield tuple(zip(chosen, counts, strict=True))


def predicted_trial(predictors: Sequence[Predictor], chain: tuple[tuple[int, int], ...]) -> Trial:
    """The trial of one chain, predicted on every collection.

    Args:
        predictors: one for each collection.
        chain: (max_length, keep) of every stage before the last.
    """
    quality = {predictor.name: predictor.quality(chain) for predictor in predictors}
    return Trial(
        tuple(EarlyStage(length, keep) for length, keep in chain),
        float(np.mean([predictor.time_share(chain) for predictor in predictors])),
        {name: share for name, (share, _, _) in quality.items()},
        {name: low for name, (_, low, _) in quality.items()},
        {name: overlap for name, (_, _, overlap) in quality.items()},
    )
