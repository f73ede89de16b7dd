"""Reranking a collection with several models, and judging and comparing what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.argument_checks import whole_number
from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import InvalidInputError
from crossrank.evaluation.beir import read_judged_collection
from crossrank.evaluation.dependencies import require_scipy
from crossrank.evaluation.kept_scores import KeptScores, digest_of
from crossrank.evaluation.measures import DEFAULT_MEASURES, check_measures, values_per_query
from crossrank.evaluation.result import EvaluatedModel, Evaluation
from crossrank.evaluation.scoring import Candidates, OpenOptions, check_model, score_candidates
from crossrank.evaluation.significance import compare_paired
from crossrank.export.verify.fidelity import kendall_tau, top_overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from crossrank.evaluation.collection import Collection
    from crossrank.evaluation.measures import Gain
    from crossrank.evaluation.scoring import Model
    from crossrank.models.manifest import PrecisionChoice, ProviderChoice

FIRST_STAGE = "first stage"
"""Name of the run's own order among the models."""

DEPTH = 100


def evaluate(  # noqa: PLR0913  one parameter an option
    collection: Collection | str | Path,
    models: Sequence[Model] | Mapping[str, Model] = ("default",),
    *,
    run: str | Path | None = None,
    depth: int = DEPTH,
    queries: int | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    gain: Gain = "linear",
    precisions: Sequence[PrecisionChoice] = ("auto",),
    provider: ProviderChoice = "auto",
    threads: int | None = None,
    max_length: int | None = None,
    seed: int = 0,
    scores: str | Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Rerank a first stage's documents with each model, and judge the rankings.

    Queries without judgements are left out, as trec_eval does; a judged query with nothing relevant has 0.

    Args:
        collection: BEIR folder, or a collection; `Collection.from_tables` makes one of dictionaries or data frames.
        models: as `Reranker` takes them, or open rerankers and cascades; a mapping names them for the report.
        run: TREC run of the first stage; None takes the folder's only `*.trec` file. Only with a folder: a collection
            has its own.
        depth: documents of the run to rerank, for each query at most.
        queries: how many of the judged queries, the first; None takes all.
        measures: as ir-measures writes them, such as 'nDCG@10', 'RR(rel=2)@10', 'R@100', 'AP'.
        gain: what a document of a grade is worth to nDCG: 'linear' the grade, 'exponential' 2^grade - 1.
        precisions: of models that are given by name; each is a model of its own in the result.
        provider: of models that are given by name, likewise the next two.
        threads: processor threads for scoring.
        max_length: tokens of a pair.
        seed: of the significance test.
        scores: folder to keep scores in; what it has is not scored again. None keeps nothing.
        progress: called with what is going on.

    Returns:
        The first stage and every model: rankings, measures, times, and the comparison with the first model.

    Raises:
        InvalidInputError: the collection cannot be used, an option is outside its range, or two models have one name.
        MissingDependencyError: ir-measures or scipy is not installed.
        CrossrankError: a model cannot be used.
    """
    check_measures(measures, gain)
    require_scipy()
    for name, value in (("depth", depth), ("queries", queries)):
        if value is not None:
            whole_number(name, value, 1)
    named = _named(models, precisions)
    if isinstance(collection, str | Path):
        collection = read_judged_collection(Path(collection), run)
    elif run is not None:
        raise InvalidInputError("run and a collection that has its own: a run goes with a BEIR folder only")
    chosen = _choose_queries(collection, queries)
    names = {query: collection.runs[query][:depth] for query in chosen.queries}
    judged = {query: collection.judgements[query] for query in chosen.queries}
    values_per_query(measures, judged, names, gain=gain)  # grades that are too large are refused before hours of work
    candidates = [
        Candidates(collection.queries[query], [collection.documents[name] for name in own])
        for query, own in names.items()
    ]
    rows = [_Row(FIRST_STAGE, "", "", [np.arange(len(own), 0, -1, dtype=np.float32) for own in names.values()], (), 0)]
    options = {
        name: OpenOptions(provider=provider, precision=precision, threads=threads, max_length=max_length)
        for name, (_, precision) in named.items()
    }
    for name, (model, _) in named.items() if len(named) > 1 else ():  # a single one is refused at once anyway
        progress(f"{name}: opening")  # may export a checkpoint
        check_model(model, options[name])
    kept = KeptScores(None if scores is None else Path(scores))
    for number, (name, (model, _)) in enumerate(named.items(), start=1):
        scored = score_candidates(
            model,
            candidates,
            options=options[name],
            kept=kept,
            progress=_prefixed(progress, f"{name} (model {number} of {len(named)})"),
        )
        seconds = tuple(own.seconds for own in scored.queries)
        rows.append(
            _Row(name, scored.precision, scored.digest, [own.scores for own in scored.queries], seconds, scored.kept)
        )
    values = [values_per_query(measures, judged, row.order(names), gain=gain) for row in rows]
    return Evaluation(
        collection=collection.name,
        digest=digest_of([[own.digest() for own in candidates], [sorted(own.items()) for own in judged.values()]]),
        queries=tuple(names),
        unjudged=chosen.unjudged,
        without_candidates=chosen.without_candidates,
        depth=int(depth),
        candidates=sum(map(len, names.values())),
        gain=gain,
        measures=tuple(measures),
        seed=seed,
        models=tuple(_judged(row, own, rows[1], values[1], names, seed) for row, own in zip(rows, values, strict=True)),
    )


@dataclass(frozen=True)
class _Row:
    """A model and its scores of every query's candidates, not judged yet."""

    name: str
    precision: str
    digest: str
    scores: list[npt.NDArray[np.float32]]
    seconds: tuple[float, ...]
    kept: int

    def rankings(self, names: Mapping[str, Sequence[str]]) -> dict[str, tuple[tuple[str, float], ...]]:
        """(document, score), best first; equal scores keep the first stage's order, as `Reranker.rank` does."""
        return {
            query: tuple((own[index], float(scores[index])) for index in np.argsort(-scores, kind="stable").tolist())
            for (query, own), scores in zip(names.items(), self.scores, strict=True)
        }

    def order(self, names: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        return {query: [name for name, _ in ranking] for query, ranking in self.rankings(names).items()}


def _judged(
    row: _Row,
    values: dict[str, dict[str, float]],
    first: _Row,
    first_values: dict[str, dict[str, float]],
    names: Mapping[str, Sequence[str]],
    seed: int,
) -> EvaluatedModel:
    """A row with its comparison to the first model."""
    matched = [] if row is first else list(zip(first.scores, row.scores, strict=True))
    return EvaluatedModel(
        name=row.name,
        precision=row.precision,
        digest=row.digest,
        rankings=row.rankings(names),
        values=values,
        seconds=row.seconds,
        kept=row.kept,
        comparisons={
            name: compare_paired(_array(values[name], names), _array(first_values[name], names), seed=seed)
            for name in (values if matched else ())
        },
        kendall_tau=float(np.mean([kendall_tau(*pair) for pair in matched])) if matched else None,
        top10_overlap=float(np.mean([top_overlap(*pair) for pair in matched])) if matched else None,
    )


def _array(values: Mapping[str, float], queries: Mapping[str, object]) -> npt.NDArray[np.float64]:
    return np.asarray([values[query] for query in queries])


@dataclass(frozen=True)
class _ChosenQueries:
    queries: list[str]
    unjudged: int
    without_candidates: int


def _choose_queries(collection: Collection, count: int | None) -> _ChosenQueries:
    judged = [query for query in collection.queries if collection.judgements.get(query)]
    usable = [query for query in judged if collection.runs.get(query)]
    chosen = usable[:count]
    if not any(map(collection.has_relevant, chosen)):
        raise InvalidInputError(
            f"{collection.name}: of its {len(collection.queries)} queries {len(judged)} have judgements, {len(usable)} "
            "of those have documents in the run, and nothing is relevant to any that was chosen (grade above 0); a run "
            "and judgements of the collection's queries expected"
        )
    return _ChosenQueries(chosen, len(collection.queries) - len(judged), len(judged) - len(usable))


def _named(
    models: Sequence[Model] | Mapping[str, Model], precisions: Sequence[PrecisionChoice]
) -> dict[str, tuple[Model, PrecisionChoice]]:
    """Every model in every precision, by its name in the report."""
    for option, given in (("models", models), ("precisions", precisions)):
        if isinstance(given, str | Path) or not given:
            raise InvalidInputError(f"{option}={given!r:.200}: a list of one or more expected")
    pairs = models.items() if isinstance(models, Mapping) else [(_name(model), model) for model in models]
    named: dict[str, tuple[Model, PrecisionChoice]] = {}
    for name, model in pairs:
        by_name = isinstance(model, str | Path)
        for precision in precisions if by_name else precisions[:1]:
            label = f"{name} {precision}" if by_name and len(precisions) > 1 else name
            if label in named or label == FIRST_STAGE:
                raise InvalidInputError(f"two models are called {label!r}: names of their own expected")
            named[label] = (model, precision)
    return named


def _name(model: Model) -> str:
    if isinstance(model, str | Path):
        return str(model)
    return model.info().model if isinstance(model, ArtifactReranker) else "cascade"


def _prefixed(progress: Callable[[str], None], prefix: str) -> Callable[[str], None]:
    return lambda step: progress(f"{prefix}: {step}")
