"""Logits to a ranking: best first, equal ones in the caller's order, then what was not scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from crossrank.engine.call.results import RankedDocument, RankResult
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.call.results import UnscoredBecause
    from crossrank.engine.text.documents import Document


def first_stage_order(first_stage_scores: object, count: int) -> npt.NDArray[np.int64]:
    """The candidates, most promising first, int64 (n,).

    Args:
        first_stage_scores: a number for each, larger is better; None where the caller's order is the first-stage order.
        count: how many candidates there are.

    Raises:
        InvalidInputError: not one number for each candidate, or one that is NaN.
    """
    if first_stage_scores is None:
        return np.arange(count)
    try:
        given = np.asarray(first_stage_scores, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"first_stage_scores: numbers expected ({error})") from error
    if given.shape != (count,):
        raise InvalidInputError(f"first_stage_scores of shape {given.shape}: one number for each of {count} documents")
    if np.isnan(given).any():
        raise InvalidInputError(f"first_stage_scores[{int(np.isnan(given).argmax())}] is NaN: numbers expected")
    return np.argsort(-given, kind="stable")


def best_first(document_scores: DocumentScores) -> npt.NDArray[np.int64]:
    """Places of what was scored, by falling logit, equal ones in order; int64, at most (n,)."""
    scored = np.flatnonzero(document_scores.scored)
    return scored[np.argsort(-document_scores.logits[scored], kind="stable")]


def ranked_documents(
    document_scores: DocumentScores,
    chosen: npt.NDArray[np.int64],
    activated: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    items: Sequence[Document] | None,
    *,
    indices: npt.NDArray[np.int64] | None = None,
    stage: int | None = None,
    out_of_time: Literal["deadline", "pending"] = "deadline",
) -> list[RankedDocument]:
    """Some documents as results, in the order given.

    Args:
        document_scores: what is known of n documents.
        chosen: which of them, int64 (b,).
        activated: logits to scores.
        items: the caller's documents, to be in the results; None leaves them out.
        indices: for each of the n documents its place in the caller's list, int64 (n,); None where it is its own.
        stage: number of the cascade's stage that scored.
        out_of_time: why those are not scored that did not fail.
    """
    scored = document_scores.scored[chosen]
    columns = (
        chosen if indices is None else indices[chosen],
        activated(document_scores.logits[chosen]),
        scored,
        document_scores.truncated[chosen] & scored,
        chosen,
    )
    return [
        RankedDocument(
            index=index,
            score=score if is_scored else None,
            document=None if items is None else items[index],
            truncated=truncated,
            window=document_scores.windows[position] if is_scored else None,
            stage=stage,
            unscored_because=None if is_scored else "failed" if position in document_scores.failed else out_of_time,
        )
        for index, score, is_scored, truncated, position in zip(*(column.tolist() for column in columns), strict=True)
    ]


def ranking(
    document_scores: DocumentScores,
    activated: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    items: Sequence[Document],
    order: npt.NDArray[np.int64],
    *,
    top_k: int,
    return_documents: bool,
    out_of_time: Literal["deadline", "pending"],
) -> RankResult:
    """The ranking of what is scored, followed by the rest.

    Args:
        document_scores: what is known of n documents.
        activated: logits to scores.
        items: the caller's documents.
        order: most promising first, int64 (n,).
        top_k: how many to return at most.
        return_documents: whether the results carry the caller's documents.
        out_of_time: why those are not scored that did not fail.
    """
    scored, rest = best_first(document_scores), order[~document_scores.scored[order]]
    chosen = np.concatenate([scored, rest])[:top_k]
    documents = ranked_documents(
        document_scores, chosen, activated, items if return_documents else None, out_of_time=out_of_time
    )
    because: UnscoredBecause | None = "failed" if document_scores.failed else None
    if len(rest) > len(document_scores.failed):
        because = out_of_time
    return RankResult(
        documents=tuple(documents),
        scored=len(scored),
        truncated_documents=int((document_scores.truncated & document_scores.scored).sum()),
        query_truncated=document_scores.query_truncated,
        unscored=tuple(rest.tolist()),
        unscored_because=because,
        failures={index: str(failure.error) for index, failure in sorted(document_scores.failed.items())},
        tokens=int(document_scores.tokens[document_scores.scored].sum()),
    )
