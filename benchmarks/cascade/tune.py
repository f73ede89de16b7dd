"""Finds the fastest cascade that keeps a stated share of the full model's ranking quality.

Every candidate is scored once at each length, and once whole. From these scores and times follows, without running it,
how any cascade of such stages would rank and how long it would take. Only the cascade that is chosen is run, in turn
with the full model.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from crossrank.benchmarks.cascade.predictor import Measure, Predictor, Trial, possible_chains, predicted_trial
from crossrank.benchmarks.cascade.stage_scores import ScoreFile, StageScores, score_stages
from crossrank.benchmarks.harness.candidates import chosen_candidates
from crossrank.benchmarks.harness.environment import describe_run
from crossrank.benchmarks.harness.sampling import ratio_per_round
from crossrank.cascade import Cascade
from crossrank.errors import InvalidInputError
from crossrank.evaluation.beir import read_collection
from crossrank.evaluation.dependencies import require_ir_measures
from crossrank.reranker import Reranker
from crossrank.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MAX_LENGTHS = (32, 48, 64, 96, 128)
KEEPS = (10, 20, 30, 50, 75, 100, 150, 200, 250, 300, 400, 500, 600, 700, 800)


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """What to tune on.

    Attributes:
        model: of the last stage, as `crossrank.Reranker` takes it: the full model.
        early_model: of the stages before; None takes the full model on fewer tokens.
        collections: BEIR folders.
        queries: of each collection, evenly spread; None takes all.
        candidates: of each query.
        share: of the full model's quality to keep, in every collection.
        measure: of quality. 'ndcg' is nDCG@10 and needs judgements; 'overlap' is the share of the full model's first
            ten documents that are among the cascade's first ten. A collection without judgements uses the overlap.
        least_overlap: overlap to keep whatever the measure: over a few dozen queries, a cascade that keeps ten
            documents of a thousand can reach the full model's nDCG by chance.
        max_lengths: lengths of the stages before the last.
        stages: largest number of stages of a cascade, 2 or 3.
        threads: of the reranker.
        scores: file that stores scores for later runs; None stores none.
        confirm: queries of each collection on which the chosen cascade is run, in turn with the full model.
    """

    model: str = "default"
    early_model: str | None = None
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
        """Check the values.

        Raises:
            InvalidInputError: a value is outside its range.
        """
        if not self.collections:
            raise InvalidInputError("no collection given: one BEIR folder or more expected")
        if not 0 < self.share <= 1:
            raise InvalidInputError(f"share={self.share}: above 0 and at most 1 expected")
        if not 0 <= self.least_overlap <= 1:
            raise InvalidInputError(f"least_overlap={self.least_overlap}: from 0 to 1 expected")
        if self.measure not in get_args(Measure):
            raise InvalidInputError(f"measure={self.measure!r}: one of {', '.join(get_args(Measure))} expected")
        if self.stages not in {2, 3}:
            raise InvalidInputError(f"stages={self.stages}: 2 or 3 expected")
        if self.candidates <= min(KEEPS) or not self.max_lengths:
            raise InvalidInputError(
                f"candidates={self.candidates}, max_lengths={tuple(self.max_lengths)}: more than {min(KEEPS)} "
                "candidates and at least one length expected"
            )


def tune_cascade(plan: TuningPlan, *, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Score all candidates, predict every cascade, choose one and run it.

    Args:
        plan: what to tune on, and what to keep.
        progress: called with each step as it begins.

    Returns:
        The conditions, every trial (fastest first), the chosen one (None if no cascade keeps the share), and its run.

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
    score_file = ScoreFile(plan.scores)
    _check_collections(plan)
    with ExitStack() as stack:
        early, full = _opened(plan, stack)
        full_length, early_length = full.info().max_length, early.info().max_length
        lengths = sorted({length for length in plan.max_lengths if length < full_length and length <= early_length})
        result["model"] = {"name": plan.model, "max_length": full_length, "graph": full.info().graph_sha256}
        result["early_model"] = {
            "name": plan.early_model or plan.model,
            "max_length": early_length,
            "graph": early.info().graph_sha256,
        }
        scored = [
            score_stages(
                early,
                full,
                folder,
                early_lengths=lengths,
                queries=plan.queries,
                candidates=plan.candidates,
                score_file=score_file,
                progress=progress,
            )
            for folder in plan.collections
        ]
    progress("predicting cascades")
    predictors = [Predictor(scores, full_length, plan.measure) for scores in scored]
    result["collections"] = [predictor.as_json() for predictor in predictors]
    chains = possible_chains(lengths, [keep for keep in KEEPS if keep < plan.candidates], plan.stages)
    trials = sorted((predicted_trial(predictors, chain) for chain in chains), key=lambda trial: trial.time_share)
    result["trials"] = [trial.as_json() for trial in trials]
    chosen = next((trial for trial in trials if _is_good_enough(trial, plan)), None)
    result["chosen"] = chosen.as_json() if chosen else None
    if chosen is not None and plan.confirm:
        result["confirmed"] = _confirm(plan, chosen, scored, progress)
    return result


def _opened(plan: TuningPlan, stack: ExitStack) -> tuple[Reranker, Reranker]:
    """The models of the stages before the last, and of the last; one reranker where they are the same."""
    full = stack.enter_context(Reranker(plan.model, threads=plan.threads))
    if plan.early_model in (None, plan.model):
        return full, full
    return stack.enter_context(Reranker(plan.early_model, threads=plan.threads)), full


def _check_collections(plan: TuningPlan) -> None:
    """Refuse collections that cannot be tuned on, before hours are spent on scoring others."""
    for folder in plan.collections:
        collection = read_collection(folder)
        chosen_candidates(folder, collection, plan.queries, plan.candidates)
        if collection.judgements and plan.measure == "ndcg":
            require_ir_measures()


def chosen_stages(result: Mapping[str, Any]) -> list[Stage] | None:
    """Stages of the chosen cascade; None if no cascade keeps the share.

    Args:
        result: what `tune_cascade` returned.
    """
    if result["chosen"] is None:
        return None
    early = result["early_model"]["name"]
    return [*(Stage(early, **stage) for stage in result["chosen"]["stages"]), Stage(result["model"]["name"])]


def _is_good_enough(trial: Trial, plan: TuningPlan) -> bool:
    return min(trial.quality.values()) >= plan.share and min(trial.overlap.values()) >= plan.least_overlap


def _confirm(
    plan: TuningPlan, chosen: Trial, scored: Sequence[StageScores], progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run the chosen cascade and the full model in turn, from the documents' text."""
    confirmed = []
    with ExitStack() as stack:
        early, full = _opened(plan, stack)
        cascade = stack.enter_context(Cascade(chosen.stages(early, full)))
        for reranker in {early, full}:
            reranker.warmup()
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
