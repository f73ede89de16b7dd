"""Headers that say what an answer's body may have no place for, such as text-embeddings-inference's array."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossrank.engine.call.results import RankResult


def ranking_headers(ranking: RankResult) -> dict[str, str]:
    """`X-Incomplete` where documents have no score, `X-Truncated` where texts were cut."""
    headers = truncated_header(ranking.truncated_documents, query=ranking.query_truncated)
    if ranking.unscored:
        headers["X-Incomplete"] = f"{ranking.unscored_because}; unscored={len(ranking.unscored)}"
    return headers


def truncated_header(documents: int, *, query: bool) -> dict[str, str]:
    """How many documents were cut, and whether a query was; no header where nothing was."""
    return {"X-Truncated": f"{documents}{'; query' * query}"} if documents or query else {}
