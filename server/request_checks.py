"""Checks of requests beyond their fields' types: sizes, and what is known but not served."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from crossrank.server.failures import Refusal, position, refusal_of_body

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from crossrank.server.requests import RerankRequest, ScoreRequest, VllmOptions
    from crossrank.server.served_models import ServedModel
    from crossrank.server.settings import ServerSettings

DEADLINE_HEADER = "X-Deadline-Ms"

_Model = TypeVar("_Model", bound=BaseModel)


def checked(kind: type[_Model], body: dict[str, Any]) -> _Model:
    """A body as a request.

    Raises:
        Refusal: 422, with the position of the bad item.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise refusal_of_body(error) from None


def check_finite(body: dict[str, Any]) -> None:
    """Refuse numbers such as 1e999, which JSON can write and an answer that gives them back cannot.

    Raises:
        Refusal: 422, with the position of the first.
    """
    location = _infinite_at(body)
    if location is not None:
        param = position(location)
        raise Refusal(422, f"{param}: a number beyond all floats; smaller ones expected", "invalid_input", param=param)


def check_servable(asked: RerankRequest, served: ServedModel) -> None:
    """Refuse what would change scores and is not served.

    Raises:
        Refusal: 422.
    """
    if asked.relevant_spans is not None:
        raise Refusal(422, "relevant_spans is not served here; leave it out", "not_supported", param="relevant_spans")
    check_vllm_options(asked, served)
    if asked.max_chunks_per_doc is None:
        return
    windows = served.reranker.info().long_documents
    most = 1 if isinstance(windows, str) else windows.max_windows_per_document
    if most is None or asked.max_chunks_per_doc < most:
        raise Refusal(
            422,
            f"max_chunks_per_doc={asked.max_chunks_per_doc}: this model is served with up to {most} windows of a "
            "document; leave the field out",
            "not_supported",
            param="max_chunks_per_doc",
        )


def check_scores_servable(asked: ScoreRequest, served: ServedModel) -> None:
    """Refuse what would change scores and is not served.

    Raises:
        Refusal: 422.
    """
    check_vllm_options(asked, served)
    if asked.max_tokens_per_doc:
        raise Refusal(
            422,
            f"max_tokens_per_doc={asked.max_tokens_per_doc}: /score reads what the model takes; /rerank cuts documents",
            "not_supported",
            param="max_tokens_per_doc",
        )


def check_vllm_options(asked: VllmOptions, served: ServedModel) -> None:
    """Refuse limits that the model would not keep.

    Raises:
        Refusal: 422.
    """
    given = asked.truncate_prompt_tokens
    if given is not None and given != -1 and given < (longest := served.reranker.info().max_length):
        raise Refusal(
            422,
            f"truncate_prompt_tokens={given}: the model reads up to {longest} tokens of a pair, and requests cannot "
            "lower that; max_tokens_per_doc cuts documents",
            "not_supported",
            param="truncate_prompt_tokens",
        )
    if asked.truncation_side == "left":
        raise Refusal(
            422,
            "truncation_side='left': texts are cut at their end; leave the field out",
            "not_supported",
            param="truncation_side",
        )
    if asked.max_tokens_per_query:
        raise Refusal(
            422,
            f"max_tokens_per_query={asked.max_tokens_per_query}: of a query is read what the model takes; send less, "
            "and leave the field out",
            "not_supported",
            param="max_tokens_per_query",
        )


def check_count(settings: ServerSettings, count: int, name: str) -> None:
    """Refuse more documents than the settings allow; `check_size` does, this is for before the documents are read.

    Raises:
        Refusal: 422, with the first document too many.
    """
    if count > settings.max_documents:
        raise Refusal(
            422,
            f"{name}: {count} given, at most {settings.max_documents} expected (max_documents)",
            "too_many_documents",
            param=f"{name}[{settings.max_documents}]",
        )


def check_size(
    settings: ServerSettings,
    documents: Sequence[str | dict[str, Any]],
    queries: Collection[str],
    names: tuple[str, str],
    instruction: str | None,
) -> None:
    """Refuse more documents or characters than the settings allow.

    Args:
        settings: have the limits.
        documents: of the request.
        queries: different ones.
        names: what the request calls queries and documents.
        instruction: goes before each query.

    Raises:
        Refusal: 422, with the first document too many, or the queries where they alone are too long.
    """
    query_name, name = names
    check_count(settings, len(documents), name)
    characters = sum(map(len, queries)) + len(queries) * len(instruction or "")
    if characters > settings.max_characters:
        raise _too_long(settings, query_name)
    for place, document in enumerate(documents):
        text = document if isinstance(document, str) else document.get("text")
        characters += len(text) if isinstance(text, str) else 0
        if characters > settings.max_characters:
            raise _too_long(settings, f"{name}[{place}]")


def header_number(text: str | None) -> float | None:
    """The milliseconds of the deadline's header; None without one.

    Raises:
        Refusal: 422.
    """
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise Refusal(
            422,
            f"{DEADLINE_HEADER}: {text!r}: milliseconds of at least 0 expected",
            "invalid_input",
            param=DEADLINE_HEADER,
        )
    return number


def _infinite_at(value: object) -> tuple[int | str, ...] | None:
    if isinstance(value, float):
        return () if math.isinf(value) else None
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        if (rest := _infinite_at(part)) is not None:
            return (key, *rest)
    return None


def _too_long(settings: ServerSettings, name: str) -> Refusal:
    return Refusal(
        422,
        f"with {name} the request has more than {settings.max_characters} characters, the most that are read "
        "(max_characters)",
        "too_many_characters",
        param=name,
    )
