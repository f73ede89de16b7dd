"""Finds the fastest cascade that keeps a stated share of the full model's ranking quality.

Every candidate is scored once at each length, and once whole. From these scores and times follows, without running it,
how any cascade of such stages would rank and how long it would take. Only the cascade that is chosen is run, in turn
with the full model.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from crossrank.benchmarks.cascade.predictor import Predictor, possible_chains, predicted_trial
from crossrank.benchmarks.cascade.stage_scores import score_stages
from crossrank.benchmarks.cascade.tuning_figures import (
    Confirmation,
    ConfirmedSeconds,
    TunedModel,
    TuningFigures,
)
from crossrank.benchmarks.harness.candidates import chosen_candidates
from crossrank.benchmarks.harness.sampling import ratio_per_round
from crossrank.cascade import Cascade
from crossrank.errors import InvalidInputError
from crossrank.evaluation.beir import read_collection
from crossrank.evaluation.dependencies import require_ir_measures
from crossrank.evaluation.kept_scores import KeptScores
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from crossrank.benchmarks.cascade.stage_scores import StageScores
    from crossrank.benchmarks.cascade.tuning_figures import Trial
    from crossrank.benchmarks.cascade.tuning_plan import TuningPlan


def tune_cascade(plan: TuningPlan, *, progress: Callable[[str], None] = lambda _: None) -> Iterator[TuningFigures]:
    """Score all candidates, predict every cascade, choose one and run it.

    Args:
        plan: what to tune on, and what to keep.
        progress: called with each step as it begins.

    Yields:
        Every trial (fastest first) and the chosen one (None if no cascade keeps the share); then the same with the
        runs of the chosen one, collection by collection.

    Raises:
        CrossrankError: the model or a folder cannot be used, or ir-measures is missing.
    """
    _check_collections(plan)
    with ExitStack() as stack:
        early, full = _opened(plan, stack)
        full_length, early_length = full.info().max_length, early.info().max_length
        lengths = sorted({length for length in plan.max_lengths if length < full_length and length <= early_length})
        model = TunedModel(plan.model, full_length, full.info().graph_sha256)
        early_model = TunedModel(plan.early_model or plan.model, early_length, early.info().graph_sha256)
        scored = [
            score_stages(
                early,
                full,
                folder,
                early_lengths=lengths,
                queries=plan.queries,
                candidates=plan.candidates,
                kept=KeptScores(plan.scores),
                progress=progress,
            )
            for folder in plan.collections
        ]
    progress("predicting cascades")
    predictors = [Predictor(scores, full_length, plan.measure) for scores in scored]
    chains = possible_chains(lengths, plan.keeps, plan.stages)
    trials = sorted((predicted_trial(predictors, chain) for chain in chains), key=lambda trial: trial.time_share)
    chosen = next((trial for trial in trials if _is_good_enough(trial, plan)), None)
    figures = TuningFigures(
        share=plan.share,
        measure=plan.measure,
        least_overlap=plan.least_overlap,
        candidates=plan.candidates,
        model=model,
        early_model=early_model,
        collections=tuple(predictor.describe() for predictor in predictors),
        trials=tuple(trials),
        chosen=chosen,
    )
    yield figures
    if chosen is not None and plan.confirm:
        for confirmation in _confirm(plan, chosen, scored, progress):
            figures = replace(figures, confirmed=(*figures.confirmed, confirmation))
            yield figures


def _opened(plan: TuningPlan, stack: ExitStack) -> tuple[Reranker, Reranker]:
    """The models of the stages before the last, and of the last; one reranker where they are the same."""
    full = stack.enter_context(Reranker(plan.model, threads=plan.threads))
    if plan.early_model in (None, plan.model):
        return full, full
    return stack.enter_context(Reranker(plan.early_model, threads=plan.threads)), full


def _check_collections(plan: TuningPlan) -> None:
    """Refuse collections that cannot be tuned on, before hours are spent on scoring others."""
    names: set[str] = set()
    for folder in plan.collections:
        collection = read_collection(folder)
        if collection.name in names:  # figures are named by it, and one would hide the other's
            raise InvalidInputError(
                f"{folder}: another collection is called {collection.name!r} too; folders of different names expected"
            )
        names.add(collection.name)
        chosen_candidates(folder, collection, plan.queries, plan.candidates)
        if collection.judgements and plan.measure == "ndcg":
            require_ir_measures()


def _is_good_enough(trial: Trial, plan: TuningPlan) -> bool:
    return min(trial.quality.values()) >= plan.share and min(trial.overlap.values()) >= plan.least_overlap


def _confirm(
    plan: TuningPlan, chosen: Trial, scored: Sequence[StageScores], progress: Callable[[str], None]
) -> Iterator[Confirmation]:
    """Run the chosen cascade and the full model in turn, from the documents' text."""
    with ExitStack() as stack:
        early, full = _opened(plan, stack)
        cascade = stack.enter_context(Cascade(chosen.cascade_stages(early, full)))
        for reranker in {early, full}:
            reranker.warmup()
        for folder, scores in zip(plan.collections, scored, strict=True):
            collection = read_collection(folder)
            of_cascade, of_full, stage_seconds = [], [], []
            for query in scores.queries[: plan.confirm]:
                progress(f"{scores.name}: running the cascade and the full model on query {query}")
                documents = [collection.documents[name] for name in scores.candidates[query]]
                started = time.perf_counter()
                ranking = cascade.rank(collection.queries[query], documents)
                of_cascade.append(time.perf_counter() - started)
                stage_seconds.append(tuple(stage.seconds for stage in ranking.stages))
                started = time.perf_counter()
                full.rank(collection.queries[query], documents)
                of_full.append(time.perf_counter() - started)
            seconds = ConfirmedSeconds(tuple(of_cascade), tuple(of_full))
            yield Confirmation(scores.name, seconds, ratio_per_round(of_cascade, of_full), tuple(stage_seconds))
