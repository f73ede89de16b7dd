"""Answers in the shapes of the APIs that are served."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank import __version__
from crossrank.engine.runtime.logits import activate
from crossrank.engine.text.documents import TEXT_FIELD

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.call.results import RankedDocument, RankResult
    from crossrank.server.served_models import ServedModel
    from crossrank.server.settings import ServerSettings


def scored_documents(ranking: RankResult, *, raw: bool) -> list[tuple[RankedDocument, float]]:
    """The documents that have a score, best first, each with it.

    Args:
        ranking: of a reranker that gives logits.
        raw: whether to leave them so; else they become scores between 0 and 1.
    """
    scored = [item for item in ranking if item.score is not None]
    logits = np.asarray([item.score for item in scored], dtype=np.float32)
    return list(zip(scored, _scores(logits, raw=raw), strict=True))


def _scores(logits: npt.NDArray[np.float32], *, raw: bool) -> list[float]:
    scores: list[float] = (logits if raw else activate(logits, "sigmoid")).tolist()
    return scores


def rerank_answer(
    ranking: RankResult,
    *,
    request_id: str,
    model: str,
    raw: bool,
    top_n: int | None,
    documents: Sequence[str | dict[str, Any]] | None,
    infinity: bool = False,
) -> dict[str, Any]:
    """One answer for Cohere, Jina, vLLM and infinity: each finds the fields that it reads.

    Args:
        ranking: of a reranker that gives logits.
        request_id: of the request.
        model: the name it is served under.
        raw: as for `scored_documents`.
        top_n: how many results at most; 0 and None give all.
        documents: as the request has them; None where results carry none.
        infinity: whether the client is infinity's, which refuses an answer that calls itself a list.
    """
    results = []
    for item, score in scored_documents(ranking, raw=raw)[: top_n or None]:
        result: dict[str, Any] = {"index": item.index, "relevance_score": score}
        if documents is not None:
            document = documents[item.index]
            result["document"] = {TEXT_FIELD: document} if isinstance(document, str) else document
        results.append(result)
    answer: dict[str, Any] = {
        "id": request_id,
        "object": "rerank" if infinity else "list",
        "created": int(time.time()),
        "model": model,
        "results": results,
        "usage": usage(ranking.tokens),
        "meta": {
            "api_version": {"version": "2"},
            "tokens": {"input_tokens": ranking.tokens},
            **({"warnings": warnings} if (warnings := cut_texts(ranking)) else {}),
        },
    }
    if (missing := incomplete(ranking)) is not None:
        answer["incomplete"] = missing
    return answer


def texts_answer(ranking: RankResult, texts: Sequence[str], *, raw: bool, return_text: bool) -> list[dict[str, Any]]:
    """text-embeddings-inference's answer: an array, best first. Texts without a score are not in it."""
    return [
        {"index": item.index, "score": score, **({"text": texts[item.index]} if return_text else {})}
        for item, score in scored_documents(ranking, raw=raw)
    ]


def score_answer(found: DocumentScores, *, request_id: str, model: str, raw: bool) -> dict[str, Any]:
    """VLLM's answer to `/score`: the scores in the texts' order."""
    scores = _scores(found.logits, raw=raw)
    return {
        "id": request_id,
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": [{"index": index, "object": "score", "score": score} for index, score in enumerate(scores)],
        "usage": usage(int(found.tokens.sum())),
    }


def usage(tokens: int) -> dict[str, int]:
    """Tokens as OpenAI's answers have them; nothing is generated, so all are the prompt's."""
    return {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}


def incomplete(ranking: RankResult) -> dict[str, Any] | None:
    """What was not scored, and why; None where all was."""
    if not ranking.unscored:
        return None
    return {
        "because": ranking.unscored_because,
        "scored": ranking.scored,
        "unscored": list(ranking.unscored),
        **(
            {"failures": {str(index): reason for index, reason in ranking.failures.items()}} if ranking.failures else {}
        ),
    }


def cut_texts(ranking: RankResult) -> list[str]:
    """In words, what was cut to the model's length."""
    warnings = []
    if ranking.truncated_documents:
        warnings.append(
            f"{ranking.truncated_documents} documents were longer than the model takes, or than was asked to be read, "
            "and were cut"
        )
    if ranking.query_truncated:
        warnings.append("the query was longer than the model takes and was cut")
    return warnings


def info_answer(served: ServedModel, names: Sequence[str], settings: ServerSettings) -> dict[str, Any]:
    """text-embeddings-inference's `/info`, and what crossrank knows besides."""
    info = served.reranker.info()
    return {
        "model_id": served.settings.source,
        "model_sha": info.graph_sha256,
        "model_dtype": {"fp32": "float32", "fp16": "float16", "int8": "int8"}[info.precision],
        "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
        "max_concurrent_requests": settings.max_concurrent_bodies,
        "max_input_length": info.max_length,
        "max_batch_tokens": info.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_documents,
        "auto_truncate": True,
        "tokenization_workers": info.threads,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "served_as": served.name,
        "models": list(names),
        "precision": info.precision,
        "provider": info.provider,
        "provider_reason": info.provider_reason,
        "threads": info.threads,
        "batching": info.batching,
        "long_documents": "truncate" if info.long_documents == "truncate" else "windows",
        "raw_scores": served.settings.raw_scores,
        "onnxruntime_version": info.onnxruntime_version,
    }


def models_answer(names: Sequence[str], started: float) -> dict[str, Any]:
    """OpenAI's list of models."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": int(started), "owned_by": "crossrank"} for name in names],
    }
