"""Finding the fastest cascade that ranks as well as the full model, from scores that were taken once.

Every candidate is scored at each length of a grid and whole. What any cascade of these stages would rank, and what its
scoring would take, follows from those scores and times without running it. The cascade that is chosen is then run, in
turn with the full model.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from crossrank.benchmarks.cascade.stage_scores import ScoreFile, StageScores, chosen_candidates, score_stages
from crossrank.benchmarks.harness.environment import describe_run
from crossrank.benchmarks.harness.sampling import ratio_per_round
from crossrank.cascade import Cascade
from crossrank.errors import InvalidInputError
from crossrank.evaluation.beir import read_collection
from crossrank.evaluation.dependencies import require_ir_measures
from crossrank.evaluation.measures import CUTOFF, ndcg_per_query
from crossrank.reranker import Reranker
from crossrank.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

Measure = Literal["ndcg", "overlap"]
MAX_LENGTHS = (32, 48, 64, 96, 128)
KEEPS = (10, 20, 30, 50, 75, 100, 150, 200, 250, 300, 400, 500, 600, 700, 800)
_RESAMPLES = 1000
_LOW_PERCENTILE = 5


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """What to tune on.

    Attributes:
        model: as `crossrank.Reranker` takes it.
        collections: BEIR folders; where one has no judgements, the top-10 overlap with the full model counts there.
        queries: of each collection, evenly spread; None takes all.
        candidates: of each query.
        share: of the full model's quality to keep, in every collection.
        measure: 'ndcg' is nDCG@10, which needs judgements; 'overlap' the share of the full model's first ten that are
            among the cascade's. Where a collection has no judgements the overlap counts.
        least_overlap: overlap to keep in any case: over a few dozen queries, a cascade that keeps ten documents of a
            thousand can have the full model's nDCG by luck.
        max_lengths: lengths of the stages before the last.
        stages: how many a cascade may have at most, 2 or 3.
        threads: of the reranker.
        scores: file to keep scores in, so that a later run goes on from them; None keeps none.
        confirm: queries of each collection to run the chosen cascade on, in turn with the full model.
    """

    model: str = "default"
    collections: Sequence[Path]
    queries: int | None = 20
    candidates: int = 1000
    share: float = 0.98
    measure: Measure = "ndcg"
    least_overlap: float = 0.5
    max_lengths: Sequence[int] = MAX_LENGTHS
    stages: int = 2
    threads: int | None = None
    scores: Path | None = None
    confirm: int = 2

    def __post_init__(self) -> None:
        """Refuse what leaves nothing to tune.

        Raises:
            InvalidInputError: a value is outside its range.
        """
        if not self.collections:
            raise InvalidInputError("no collection: a BEIR folder or more expected")
        if not 0 < self.share <= 1:
            raise InvalidInputError(f"share={self.share}: above 0 and at most 1 expected")
        if not 0 <= self.least_overlap <= 1:
            raise InvalidInputError(f"least_overlap={self.least_overlap}: from 0 to 1 expected")
        if self.measure not in get_args(Measure):
            raise InvalidInputError(f"measure={self.measure!r}: one of {', '.join(get_args(Measure))} expected")
        if self.stages not in {2, 3}:
            raise InvalidInputError(f"stages={self.stages}: 2 or 3 expected")
        if self.candidates <= min(KEEPS) or not self.max_lengths:
            raise InvalidInputError(f"more than {min(KEEPS)} candidates and at least one length expected")


@dataclass(frozen=True)
class Trial:
    """A cascade and what it would do.

    Attributes:
        chain: (max_length, keep) of every stage before the last.
        time_share: of the full model's time, encoding counted in both; the mean of the collections.
        quality: for each collection the share of the full model's nDCG@10 that is left, or the overlap.
        low_quality: its fifth percentile over resampled queries (bootstrap).
        overlap: for each collection the mean overlap of the first ten with the full model's.
    """

    chain: tuple[tuple[int, int], ...]
    time_share: float
    quality: dict[str, float]
    low_quality: dict[str, float]
    overlap: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """For the result file."""
        stages = [{"max_length": length, "keep": keep} for length, keep in self.chain]
        return {
            "stages": stages,
            "time_share": self.time_share,
            "quality": self.quality,
            "low_quality": self.low_quality,
            "overlap": self.overlap,
        }

    def stages(self, model: str) -> list[Stage]:
        """The cascade, the full model last."""
        return [*(Stage(model, keep=keep, max_length=length) for length, keep in self.chain), Stage(model)]


def tune_cascade(plan: TuningPlan, *, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Score, try every cascade, choose one, run it.

    Returns:
        The conditions, every trial (fastest first), the chosen one or None where none keeps the share, and its run.

    Raises:
        CrossrankError: the model or a folder cannot be used, or ir-measures is missing.
    """
    result: dict[str, Any] = {
        **describe_run(),
        "share": plan.share,
        "measure": plan.measure,
        "least_overlap": plan.least_overlap,
        "candidates": plan.candidates,
    }
    kept = ScoreFile(plan.scores)
    _check_collections(plan)
    with Reranker(plan.model, threads=plan.threads) as reranker:
        full_length = reranker.info().max_length
        lengths = sorted({length for length in plan.max_lengths if length < full_length})
        result["model"] = {"name": plan.model, "max_length": full_length, "graph": reranker.info().graph_sha256}
        scored = [
            score_stages(
                reranker,
                folder,
                max_lengths=[*lengths, full_length],
                queries=plan.queries,
                candidates=plan.candidates,
                kept=kept,
                progress=progress,
            )
            for folder in plan.collections
        ]
    progress("trying cascades")
    judges = [_Judge(scores, full_length, plan.measure) for scores in scored]
    result["collections"] = [judge.as_json() for judge in judges]
    chains = list(_chains(lengths, [keep for keep in KEEPS if keep < plan.candidates], plan.stages))
    trials = sorted((_trial(judges, chain) for chain in chains), key=lambda trial: trial.time_share)
    result["trials"] = [trial.as_json() for trial in trials]
    good = (trial for trial in trials if _keeps(trial, plan))
    chosen = next(good, None)
    result["chosen"] = chosen.as_json() if chosen else None
    if chosen is not None and plan.confirm:
        result["confirmed"] = _confirm(plan, chosen, scored, progress)
    return result


def _check_collections(plan: TuningPlan) -> None:
    """Refuse collections that cannot be tuned on before hours go into scoring the others."""
    for folder in plan.collections:
        collection = read_collection(folder)
        chosen_candidates(folder, collection, plan.queries, plan.candidates)
        if collection.judgements and plan.measure == "ndcg":
            require_ir_measures()


def chosen_stages(result: Mapping[str, Any]) -> list[Stage] | None:
    """Stages of the chosen cascade; None where none keeps the share."""
    if result["chosen"] is None:
        return None
    model = result["model"]["name"]
    return [*(Stage(model, **stage) for stage in result["chosen"]["stages"]), Stage(model)]


class _Judge:
    """What cascades would do to one collection."""

    def __init__(self, scores: StageScores, full_length: int, measure: Measure) -> None:
        self._scores = scores
        self._full = full_length
        self.name = scores.name
        self._order = {length: np.argsort(-own, kind="stable") for length, own in scores.logits.items()}
        self._best = self._order[full_length][:, :CUTOFF]
        self._reference = self._per_query(self._best) if scores.judged and measure == "ndcg" else None

    def as_json(self) -> dict[str, Any]:
        """The collection, and the full model on it."""
        return {
            "name": self.name,
            "queries": len(self._scores.queries),
            "ndcg": None if self._reference is None else float(self._reference.mean()),
            "seconds_per_document": {str(length): value for length, value in self._scores.seconds.items()},
            "encoding_seconds_per_document": self._scores.encoding_seconds,
        }

    def time_share(self, chain: Sequence[tuple[int, int]]) -> float:
        """Predicted share of the full model's time, encoding counted in both."""
        counts = [len(self._order[self._full][0]), *(keep for _, keep in chain)]
        lengths = [*(length for length, _ in chain), self._full]
        encoding = counts[0] * self._scores.encoding_seconds
        scoring = sum(count * self._scores.seconds[length] for count, length in zip(counts, lengths, strict=True))
        return float((encoding + scoring) / (encoding + counts[0] * self._scores.seconds[self._full]))

    def quality(self, chain: Sequence[tuple[int, int]]) -> tuple[float, float, float]:
        """Share of the full model's quality, its fifth percentile over resampled queries, and the overlap."""
        best = self._best_of(chain)
        common = [len(np.intersect1d(left, right)) for left, right in zip(best, self._best, strict=True)]
        own, reference = np.asarray(common, dtype=np.float64), np.full(len(common), float(self._best.shape[1]))
        overlap = float(own.sum() / reference.sum())
        if self._reference is not None:
            own, reference = self._per_query(best), self._reference
        picked = np.random.default_rng(0).integers(0, len(own), (_RESAMPLES, len(own)))
        shares = own[picked].sum(axis=1) / np.maximum(reference[picked].sum(axis=1), 1e-9)
        share = float(own.sum() / max(reference.sum(), 1e-9))
        return share, float(np.percentile(shares, _LOW_PERCENTILE)), overlap

    def _best_of(self, chain: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
        """First candidates of each query after all stages, int64 (queries, at most 10)."""
        rows = []
        for row in range(len(self._scores.queries)):
            alive = np.arange(self._order[self._full].shape[1])
            for length, keep in chain:
                own = self._scores.logits[length][row][alive]
                alive = np.sort(alive[np.argsort(-own, kind="stable")[:keep]])
            own = self._scores.logits[self._full][row][alive]
            rows.append(alive[np.argsort(-own, kind="stable")[:CUTOFF]])
        return np.asarray(rows)

    def _per_query(self, best: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        rankings = {
            query: [self._scores.candidates[query][index] for index in indices.tolist()]
            for query, indices in zip(self._scores.queries, best, strict=True)
        }
        values = ndcg_per_query(self._scores.judged, rankings)
        return np.asarray([values[query] for query in self._scores.queries])


def _chains(lengths: Sequence[int], keeps: Sequence[int], stages: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every chain of stages before the last: lengths grow, and fewer documents are kept each time."""
    for before_last in range(1, stages):
        for chosen in itertools.combinations(lengths, before_last):
            for counts in itertools.combinations(sorted(keeps, reverse=True), before_last):
                yield tuple(zip(chosen, counts, strict=True))


def _trial(judges: Sequence[_Judge], chain: tuple[tuple[int, int], ...]) -> Trial:
    quality = {judge.name: judge.quality(chain) for judge in judges}
    return Trial(
        chain,
        float(np.mean([judge.time_share(chain) for judge in judges])),
        {name: share for name, (share, _, _) in quality.items()},
        {name: low for name, (_, low, _) in quality.items()},
        {name: overlap for name, (_, _, overlap) in quality.items()},
    )


def _keeps(trial: Trial, plan: TuningPlan) -> bool:
    return min(trial.quality.values()) >= plan.share and min(trial.overlap.values()) >= plan.least_overlap


def _confirm(
    plan: TuningPlan, chosen: Trial, scored: Sequence[StageScores], progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run the chosen cascade and the full model in turn, from the documents' text."""
    confirmed = []
    with (
        Reranker(plan.model, threads=plan.threads) as full,
        Cascade([Stage(full, stage.keep, stage.max_length) for stage in chosen.stages(plan.model)]) as cascade,
    ):
        full.warmup()
        for folder, scores in zip(plan.collections, scored, strict=True):
            collection = read_collection(folder)
            times: dict[str, list[float]] = {"cascade": [], "full": []}
            stage_seconds = []
            for query in scores.queries[: plan.confirm]:
                progress(f"{scores.name}: running the cascade and the full model on query {query}")
                documents = [collection.documents[name] for name in scores.candidates[query]]
                started = time.perf_counter()
                ranking = cascade.rank(collection.queries[query], documents)
                times["cascade"].append(time.perf_counter() - started)
                stage_seconds.append([stage.seconds for stage in ranking.stages])
                started = time.perf_counter()
                full.rank(collection.queries[query], documents)
                times["full"].append(time.perf_counter() - started)
            ratio = ratio_per_round(times["cascade"], times["full"])
            confirmed.append(
                {"collection": scores.name, "seconds": times, "time_share": ratio.as_json(), "stages": stage_seconds}
            )
    return confirmed
