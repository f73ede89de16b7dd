"""Running a new artifact's graphs through the engine, as users will, and checking their bounds."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.plan.batch_kinds import KINDS
from crossrank.errors import FidelityError, InferenceError, InvalidInputError, TruncationWarning
from crossrank.export.verify.pairs import all_pairs, choose_reference_pairs, split_by_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from crossrank.engine.artifact_reranker import ArtifactReranker
    from crossrank.export.verify.pairs import VerificationQuery
    from crossrank.models.manifest import Batching, Fidelity, Precision

MAX_FP32_DIFFERENCE = 1e-4
"""Largest logit difference a float32 graph may have from its reference, where logits are not large."""

_LARGE_LOGIT = 10.0
"""Beyond it the rounding of float32, which is relative, counts: the difference may be larger by as much as they are."""

MIN_KENDALL_TAU = 0.85
"""Least mean rank correlation an int8 or fp16 graph must have with the float32 one."""

_ADVANCE_PAIRS = 20
_BATCH_LENGTHS = (9, 16, 17, 24, 31, 48, 64, 100, 129)
_BATCH_ROWS = 8
_BATCH_THREADS = (1, 2)


@dataclass(frozen=True)
class GraphRuns:
    """Logits of one graph over all verification pairs.

    Attributes:
        single: one pair a run, one array a query.
        others: further runs: of pairs in calls of their own and, where the graph allows it, in batches.
        milliseconds_per_pair: mean wall time of the single runs, tokenization included.
    """

    single: list[NDArray[np.float32]]
    others: tuple[list[NDArray[np.float32]], ...]
    milliseconds_per_pair: float

    @property
    def all(self) -> tuple[list[NDArray[np.float32]], ...]:
        """Every run, the single one first."""
        return (self.single, *self.others)


@dataclass(frozen=True)
class Bounds:
    """The fidelity a graph must have.

    Attributes:
        min_kendall_tau: for int8 and fp16, mean over queries.
        max_fp32_difference: for fp32, over all pairs.

    Raises:
        InvalidInputError: the bound on Kendall's tau is not between -1 and 1.
    """

    min_kendall_tau: float = MIN_KENDALL_TAU
    max_fp32_difference: float = MAX_FP32_DIFFERENCE

    def __post_init__(self) -> None:
        if not -1.0 <= self.min_kendall_tau <= 1.0:
            raise InvalidInputError(f"min_kendall_tau={self.min_kendall_tau!r}: a number from -1 to 1 expected")

    def suiting(self, logits: Iterable[NDArray[np.floating]]) -> Bounds:
        """The bounds for a model that gives such logits."""
        scale = max((rounding_scale(some) for some in logits), default=1.0)
        return replace(self, max_fp32_difference=MAX_FP32_DIFFERENCE * scale)

    @staticmethod
    def by_difference(precision: Precision, fidelity: Fidelity) -> bool:
        """Whether a graph is held to the largest difference (otherwise to Kendall's tau).

        A graph that was imported quantized has no float32 graph to be compared with, so its runs are compared.
        """
        return precision == "fp32" or (precision == "int8" and fidelity.reference == "self")

    def holds(self, precision: Precision, fidelity: Fidelity) -> bool:
        """Whether a graph's figures are within the bounds."""
        if self.by_difference(precision, fidelity):
            return fidelity.max_abs_logit_difference <= self.max_fp32_difference
        return fidelity.kendall_tau is not None and fidelity.kendall_tau >= self.min_kendall_tau


def rounding_scale(logits: NDArray[np.floating]) -> float:
    """How much larger than usual a difference between these logits and others may be by rounding alone; at least 1."""
    return max(1.0, float(np.max(np.abs(logits), initial=0.0)) / _LARGE_LOGIT)


def run_graph(
    folder: Path,
    precision: Precision,
    queries: Sequence[VerificationQuery],
    *,
    advance: Callable[[int, int], None] | None = None,
) -> GraphRuns:
    """Score all verification pairs with one graph of an artifact folder (CPU provider, activation identity).

    Args:
        folder: the artifact, committed or not; its manifest must be there.
        precision: which graph.
        queries: the verification queries, fitted to the model.
        advance: called with (pairs done, pairs in all).

    Raises:
        FidelityError: a score is no number, or onnxruntime fails on a shape.
        ArtifactError: onnxruntime refuses the graph.
    """
    pairs = all_pairs(queries)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            with _open(folder, precision, max_batch_tokens=1) as alone:
                single, seconds = _score_alone(alone, pairs, advance)
                by_themselves = _score_calls_of_one(alone, single, queries)
                kind = KINDS[alone.info().batching]
            if not kind.pads and not np.array_equal(single, by_themselves):
                raise FidelityError(
                    f"the {precision} graph scores a pair differently when it is the only one of a call: "
                    f"by up to {np.max(np.abs(single - by_themselves)):g}, where not a bit may change"
                )
            padded = [split_by_query(by_themselves, queries)]
            if kind.pads:
                with _open(folder, precision) as together:
                    padded.append(split_by_query(together.score_pairs(pairs), queries))
                mixed = _score_uneven(folder, precision, queries, split_by_query(single, queries))
                padded.append(mixed)
    except InferenceError as error:
        raise FidelityError(f"the {precision} graph failed on the verification pairs: {error}") from error
    return GraphRuns(split_by_query(single, queries), tuple(padded), 1000.0 * seconds / max(len(pairs), 1))


def ignores_other_pairs(
    folder: Path, precision: Precision, queries: Sequence[VerificationQuery], batching: Batching
) -> bool:
    """Whether pairs score bitwise alike alone and together, over lengths, batch sizes and threads.

    Args:
        folder: the artifact folder.
        precision: which graph.
        queries: the verification queries.
        batching: what is tried: 'equal_length' for pairs of one length, 'packed' for those of different ones too.

    Raises:
        ArtifactError: onnxruntime refuses the graph.
    """
    from crossrank.engine.runtime.batch_invariance import rows_of_length, scores_ignore_other_pairs, shortened
    from crossrank.engine.runtime.session import GraphSession
    from crossrank.engine.text.encoding import PairEncoder
    from crossrank.models.artifact import Artifact

    artifact = Artifact.open(folder)
    manifest = artifact.manifest
    graph = artifact.find_graph(precision, "cpu")
    assert graph is not None  # noqa: S101  it was just written
    encoder = PairEncoder.load(
        artifact.path(manifest.tokenizer), max_length=manifest.max_length, pad_token_id=manifest.pad_token_id
    )
    texts = all_pairs(queries)
    pairs = encoder.pair(
        [encoder.encode_query(query) for query, _ in texts],
        np.arange(len(texts)),
        encoder.encode_documents([document for _, document in texts]),
    )
    seen = 0
    for threads in _BATCH_THREADS:
        session = GraphSession(artifact.path(graph.file), manifest, threads=threads, spin=False)
        for length in _BATCH_LENGTHS:
            arrays = rows_of_length(encoder, pairs, length, _BATCH_ROWS)
            if arrays is None:
                continue
            seen += 1
            tried = [arrays]
            if KINDS[batching].mixes_lengths:
                tried.append(shortened(arrays, manifest.pad_token_id))
            try:
                if not all(scores_ignore_other_pairs(session.run, some) for some in tried):
                    return False
            except InferenceError:  # a graph of fixed shape
                return False
    return seen > 0


def check(fidelities: Iterable[tuple[Precision, Fidelity]], bounds: Bounds) -> None:
    """Raise unless every graph is within its bounds.

    Raises:
        FidelityError: one is not; the message has the figures of all.
    """
    measured = list(fidelities)
    if all(bounds.holds(precision, fidelity) for precision, fidelity in measured):
        return
    lines = [_described(precision, fidelity, bounds) for precision, fidelity in measured]
    raise FidelityError(
        "\n".join(["the export misses its fidelity bounds, nothing was written:", *lines, *_fixes(measured, bounds)])
    )


def _fixes(measured: Sequence[tuple[Precision, Fidelity]], bounds: Bounds) -> list[str]:
    """What a user can do about missed bounds on the rank correlation; a missed difference they cannot fix."""
    held = [precision for precision, fidelity in measured if bounds.holds(precision, fidelity)]
    missed = [item for item in measured if item[0] not in held]
    if any(bounds.by_difference(*item) for item in missed):
        return []
    names = ",".join(held)
    leave_out = f"leave out what misses its bound (--precision {names}), or " if held else ""
    return [f"{leave_out}accept a lower rank correlation (min_kendall_tau, --min-kendall-tau)"]


def _open(folder: Path, precision: Precision, *, max_batch_tokens: int | None = None) -> ArtifactReranker:
    from crossrank.engine.artifact_reranker import ArtifactReranker

    return ArtifactReranker(
        folder, provider="cpu", precision=precision, activation="identity", max_batch_tokens=max_batch_tokens
    )


def _score_alone(
    reranker: ArtifactReranker, pairs: Sequence[tuple[str, str]], advance: Callable[[int, int], None] | None
) -> tuple[NDArray[np.float32], float]:
    reranker.warmup()
    logits = np.empty(len(pairs), dtype=np.float32)
    seconds = 0.0
    for start in range(0, len(pairs), _ADVANCE_PAIRS):
        some = pairs[start : start + _ADVANCE_PAIRS]
        begin = time.perf_counter()
        logits[start : start + len(some)] = reranker.score_pairs(some)
        seconds += time.perf_counter() - begin
        if advance is not None:
            advance(start + len(some), len(pairs))
    return logits, seconds


def _score_calls_of_one(
    reranker: ArtifactReranker, single: NDArray[np.float32], queries: Sequence[VerificationQuery]
) -> NDArray[np.float32]:
    """The logits with those of the reference pairs scored again, each in a call of its own.

    The engine spreads many pairs over the cores and gives a lone one all of them, which is another session.
    """
    logits = single.copy()
    for index, pair in choose_reference_pairs(queries):
        logits[index] = reranker.score(pair.query, [pair.document])[0]
    return logits


def _score_uneven(
    folder: Path,
    precision: Precision,
    queries: Sequence[VerificationQuery],
    single: Sequence[NDArray[np.float32]],
) -> list[NDArray[np.float32]]:
    """Batches the engine's planner would avoid: a query's shortest, middle and longest document in one run.

    They show whether the graph's mask still works under much padding.

    Returns:
        The single logits with those of the uneven batches in their places.
    """
    from crossrank.engine.runtime.causal_session import open_graph
    from crossrank.engine.runtime.cores import available_cores
    from crossrank.engine.runtime.logits import relevance_logits
    from crossrank.engine.runtime.reference_pairs import artifact_encoder
    from crossrank.models.artifact import Artifact

    artifact = Artifact.open(folder)
    manifest = artifact.manifest
    graph = artifact.find_graph(precision, "cpu")
    assert graph is not None  # noqa: S101  run_graph has just opened it
    encoder = artifact_encoder(artifact)
    session = open_graph(artifact.path(graph.file), manifest, threads=available_cores(), spin=False)
    batches = []
    for item, logits in zip(queries, single, strict=True):
        count = len(item.documents)
        query_of = np.zeros(count, dtype=np.int64)
        pairs = encoder.pair([encoder.encode_query(item.query)], query_of, encoder.encode_documents(item.documents))
        order = np.argsort(pairs.lengths, kind="stable")
        chosen = np.unique(order[[0, count // 2, -1]])
        arrays = encoder.assemble(pairs, chosen, int(pairs.lengths[chosen].max()))
        together = logits.copy()
        together[chosen] = relevance_logits(session.run(arrays), manifest.positive_label)
        batches.append(together)
    return batches


def _described(precision: Precision, fidelity: Fidelity, bounds: Bounds) -> str:
    bound = (
        f"largest logit difference at most {bounds.max_fp32_difference:g}"
        if bounds.by_difference(precision, fidelity)
        else f"Kendall tau at least {bounds.min_kendall_tau:g}"
    )
    verdict = "holds" if bounds.holds(precision, fidelity) else "MISSED"
    return (
        f"  {precision} against {fidelity.reference}: largest logit difference {fidelity.max_abs_logit_difference:g}, "
        f"Kendall tau {_figure(fidelity.kendall_tau)}, top-10 overlap {_figure(fidelity.top10_overlap)} over "
        f"{fidelity.pairs} pairs of {fidelity.queries} queries; bound: {bound}: {verdict}"
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
