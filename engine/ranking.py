"""Logits to a ranking: best first, equal ones in the caller's order, then what was not scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crossrank.engine.results import RankedDocument, RankResult
from crossrank.models.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from crossrank.engine.documents import Document
    from crossrank.engine.encoding import EncodedPairs
    from crossrank.engine.progressive import ChunkedScoring


def order_of_promise(first_stage_scores: object, count: int) -> npt.NDArray[np.int64]:
    """The candidates, most promising first, int64 (n,).

    Args:
        first_stage_scores: a number for each, larger is better; None where the caller's order is that of promise.
        count: how many candidates there are.

    Raises:
        InvalidInputError: not one number for each candidate, or one that is NaN.
    """
    if first_stage_scores is None:
        return np.arange(count)
    try:
        given = np.asarray(first_stage_scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"first_stage_scores: numbers expected ({error})") from error
    if given.shape != (count,):
        raise InvalidInputError(f"first_stage_scores of shape {given.shape}: one number for each of {count} documents")
    if np.isnan(given).any():
        raise InvalidInputError(f"first_stage_scores[{int(np.isnan(given).argmax())}] is NaN: numbers expected")
    return np.argsort(-given, kind="stable")


def whole_ranking(
    pairs: EncodedPairs,
    logits: npt.NDArray[np.float32],
    activated: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    items: Sequence[Document],
    *,
    top_k: int,
    return_documents: bool,
) -> RankResult:
    """The ranking of documents that were all scored.

    Args:
        pairs: what was scored.
        logits: float32 (n,).
        activated: logits to scores.
        items: the caller's documents.
        top_k: how many to return at most.
        return_documents: whether the results carry the caller's documents.
    """
    scores = activated(logits)
    best_first = np.argsort(-logits, kind="stable")[:top_k].tolist()
    return RankResult(
        documents=tuple(
            RankedDocument(
                index=index,
                score=float(scores[index]),
                document=items[index] if return_documents else None,
                truncated=bool(pairs.truncated[index]),
            )
            for index in best_first
        ),
        scored=len(items),
        truncated_documents=int(pairs.truncated.sum()),
        query_truncated=pairs.queries_truncated,
    )


def ranking_so_far(
    scoring: ChunkedScoring,
    activated: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    items: Sequence[Document],
    order: npt.NDArray[np.int64],
    *,
    top_k: int,
    return_documents: bool,
    unscored_because: Literal["deadline", "pending"],
) -> RankResult:
    """The ranking of what is scored so far, followed by the rest.

    Args:
        scoring: what is scored.
        activated: logits to scores.
        items: the caller's documents.
        order: most promising first, int64 (n,).
        top_k: how many to return at most.
        return_documents: whether the results carry the caller's documents.
        unscored_because: why some are not scored, where any are not.
    """
    known = np.flatnonzero(scoring.scored)
    known = known[np.argsort(-scoring.logits[known], kind="stable")]
    rest = order[~scoring.scored[order]]
    scores: list[Any] = activated(scoring.logits[known]).tolist() + [None] * len(rest)
    places = known.tolist() + rest.tolist()
    return RankResult(
        documents=tuple(
            RankedDocument(
                index=index,
                score=score,
                document=items[index] if return_documents else None,
                truncated=bool(scoring.truncated[index]),
            )
            for index, score in zip(places[:top_k], scores[:top_k], strict=True)
        ),
        scored=len(known),
        truncated_documents=int(scoring.truncated.sum()),
        query_truncated=scoring.query_truncated,
        unscored=tuple(rest.tolist()),
        unscored_because=unscored_because if len(rest) else None,
    )
