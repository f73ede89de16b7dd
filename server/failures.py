"""Refusals and failures as answers: one status and one body for each kind, in the shape of every client served."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from crossrank.errors import (
    ClosedError,
    CrossrankError,
    DeadlineExceeded,
    InferenceError,
    InvalidInputError,
    Overloaded,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError

_TEI_TYPES = {413: "Validation", 422: "Validation", 424: "Backend", 429: "Overloaded", 503: "Unhealthy"}
"""What text-embeddings-inference calls a failure, by its status."""

UNUSABLE = 422
"""HTTP's status of a body that is understood and cannot be used."""

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    424: "server_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818  most are no errors of the service
    """An answer other than the one asked for.

    Attributes:
        status: HTTP's.
        message: what was given, what was expected, how to fix it.
        code: a word for programs.
        param: the field that is to blame, with the position of the bad item, such as 'documents[3]'.
        retry_after: seconds after which it is worth another try.
        headers: further headers.
        tei: whether the request was text-embeddings-inference's, whose `error` is a text.
        infinity: whether it was infinity's, whose client takes `detail` of a 422 for FastAPI's list of mistakes.
    """

    status: int
    message: str
    code: str
    param: str | None = None
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    tei: bool = False
    infinity: bool = False

    def body(self) -> dict[str, Any]:
        """The body: `message` for Cohere, `detail` for FastAPI services and Jina, `error` for OpenAI's shape."""
        details: dict[str, Any] = {
            "message": self.message,
            "type": _OPENAI_TYPES.get(self.status, "server_error"),
            "param": self.param,
            "code": self.code,
        }
        if self.retry_after is not None:
            details["retry_after"] = round(self.retry_after, 3)
        mistakes = [{"loc": ["body", *([self.param] if self.param else [])], "msg": self.message, "type": self.code}]
        return {
            "message": self.message,
            "detail": mistakes if self.infinity and self.status == UNUSABLE else self.message,
            "error": self.message if self.tei else details,
            "error_type": _TEI_TYPES.get(self.status, "Backend"),
            **({"code": self.code, "param": self.param} if self.tei else {}),
        }

    def response(self, request_id: str | None = None) -> JSONResponse:
        """The whole answer."""
        body = self.body()
        if request_id is not None:
            body["id"] = request_id
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))  # whole seconds, says RFC 9110
            headers["Retry-After-Ms"] = str(max(1, math.ceil(self.retry_after * 1000)))
        return JSONResponse(body, self.status, headers)


def refusal_of(error: CrossrankError, *, tei: bool = False) -> Refusal:
    """What an error of the engine is over HTTP."""
    message = str(error)
    if isinstance(error, Overloaded):
        return Refusal(429, message, "overloaded", retry_after=error.retry_after, tei=tei)
    if isinstance(error, InvalidInputError):
        return Refusal(422, message, "invalid_input", param=_param(message), tei=tei)
    if isinstance(error, DeadlineExceeded):
        return Refusal(504, message, "deadline_exceeded", tei=tei)
    if isinstance(error, ClosedError):
        return Refusal(503, "the service is shutting down", "draining", retry_after=1.0, tei=tei)
    if isinstance(error, InferenceError):
        return Refusal(424 if tei else 500, message, "inference_failed", tei=tei)
    return Refusal(500, message, "internal_error", tei=tei)


def refusal_of_body(error: ValidationError) -> Refusal:
    """What is wrong in a request's body: the first problem, and the position of the item."""
    problems = error.errors(include_url=False, include_context=False, include_input=True)
    first = problems[0]
    param = position(first["loc"])
    given = first.get("input")
    shown = f" ({type(given).__name__} given)" if param and first["type"] != "missing" else ""
    message = f"{param or 'body'}: {first['msg']}{shown}"
    if len(problems) > 1:
        message += f" (problems in all: {len(problems)})"
    code = "invalid_json" if first["type"] == "json_invalid" else "invalid_input"
    return Refusal(422, message, code, param=param)


def position(location: tuple[int | str, ...]) -> str | None:
    """('documents', 3, 'str') as 'documents[3]': the names of union members are no part of what was sent."""
    text = ""
    for place, part in enumerate(location):
        if isinstance(part, int):
            text += f"[{part}]"
        elif place == 0:
            text = part
        else:
            break
    return text or None


def _param(message: str) -> str | None:
    """The engine's messages begin with the argument and its position."""
    name = message.split(" ", 1)[0].rstrip(":")
    return name.partition("=")[0] if name.replace("_", "a").partition("[")[0].partition("=")[0].isidentifier() else None
