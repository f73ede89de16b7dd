"""The OpenAPI description of the routes, made of the models that check requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from crossrank import __version__
from crossrank.server.requests import RerankRequest, ScoreRequest, TextsRequest

if TYPE_CHECKING:
    from crossrank.server.settings import ServerSettings

_SCHEMAS = "#/components/schemas/"

_NUMBER: dict[str, Any] = {"type": "number"}
_WHOLE: dict[str, Any] = {"type": "integer"}
_TEXT: dict[str, Any] = {"type": "string"}
_USAGE: dict[str, Any] = {
    "type": "object",
    "properties": {"prompt_tokens": _WHOLE, "total_tokens": _WHOLE, "completion_tokens": _WHOLE},
}
_INCOMPLETE: dict[str, Any] = {
    "type": "object",
    "description": "Only where documents have no score.",
    "properties": {
        "because": {"type": "string", "enum": ["deadline", "pending", "failed"]},
        "scored": _WHOLE,
        "unscored": {"type": "array", "items": _WHOLE, "description": "Positions, most promising first."},
        "failures": {"type": "object", "additionalProperties": _TEXT, "description": "Reasons by position."},
    },
}

_ANSWERS: dict[str, Any] = {
    "RerankAnswer": {
        "type": "object",
        "required": ["id", "object", "created", "model", "results", "usage", "meta"],
        "properties": {
            "id": _TEXT,
            "object": {"enum": ["list", "rerank"], "description": "'rerank' for requests with raw_scores."},
            "created": _WHOLE,
            "model": _TEXT,
            "results": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["index", "relevance_score"],
                    "properties": {
                        "index": _WHOLE,
                        "relevance_score": _NUMBER,
                        "document": {"type": "object", "description": "Only with return_documents."},
                    },
                },
            },
            "usage": _USAGE,
            "meta": {"type": "object"},
            "incomplete": _INCOMPLETE,
        },
        "examples": [
            {
                "id": "5f0c",
                "object": "list",
                "created": 1790000000,
                "model": "default",
                "results": [{"index": 0, "relevance_score": 0.98}],
                "usage": {"prompt_tokens": 44, "total_tokens": 44, "completion_tokens": 0},
                "meta": {"api_version": {"version": "2"}, "tokens": {"input_tokens": 44}},
            }
        ],
    },
    "TextsAnswer": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["index", "score"],
            "properties": {"index": _WHOLE, "score": _NUMBER, "text": _TEXT},
        },
        "examples": [[{"index": 0, "score": 0.98}, {"index": 1, "score": 0.01}]],
    },
    "ScoreAnswer": {
        "type": "object",
        "required": ["id", "object", "created", "model", "data", "usage"],
        "properties": {
            "id": _TEXT,
            "object": {"const": "list"},
            "created": _WHOLE,
            "model": _TEXT,
            "data": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["index", "object", "score"],
                    "properties": {"index": _WHOLE, "object": {"const": "score"}, "score": _NUMBER},
                },
            },
            "usage": _USAGE,
        },
        "examples": [
            {
                "id": "5f0c",
                "object": "list",
                "created": 1790000000,
                "model": "default",
                "data": [{"index": 0, "object": "score", "score": 0.98}],
                "usage": {"prompt_tokens": 44, "total_tokens": 44, "completion_tokens": 0},
            }
        ],
    },
    "Error": {
        "type": "object",
        "required": ["message", "detail", "error", "error_type"],
        "properties": {
            "message": _TEXT,
            "detail": {
                "anyOf": [
                    _TEXT,
                    {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"loc": {"type": "array"}, "msg": _TEXT, "type": _TEXT},
                        },
                        "description": "For requests with documents and raw_scores.",
                    },
                ]
            },
            "error": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {
                            "message": _TEXT,
                            "type": _TEXT,
                            "param": {"type": ["string", "null"]},
                            "code": _TEXT,
                            "retry_after": _NUMBER,
                        },
                    },
                    {"type": "string", "description": "For text-embeddings-inference's requests."},
                ]
            },
            "error_type": _TEXT,
            "id": _TEXT,
        },
        "examples": [
            {
                "message": "documents[1]: Input should be a valid string (int given)",
                "detail": "documents[1]: Input should be a valid string (int given)",
                "error": {
                    "message": "documents[1]: Input should be a valid string (int given)",
                    "type": "invalid_request_error",
                    "param": "documents[1]",
                    "code": "invalid_input",
                },
                "error_type": "Validation",
            }
        ],
    },
}

_ERRORS = {
    "401": "No valid key.",
    "404": "No model of that name.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "415": "Not application/json.",
    "422": "The body cannot be used; `param` has the field and the position of the bad item.",
    "424": "A run of the model failed (text-embeddings-inference's requests).",
    "429": "Too busy; `Retry-After` says when to come again.",
    "500": "A run of the model failed.",
    "503": "Models are still loaded, or the process is about to end.",
    "504": "The deadline came before all was scored, and all was asked for.",
}


def openapi_document(settings: ServerSettings) -> dict[str, Any]:
    """The description, OpenAPI 3.1."""
    _, schemas = models_json_schema(
        [(model, "validation") for model in (RerankRequest, TextsRequest, ScoreRequest)],
        ref_template=_SCHEMAS + "{model}",
    )
    rerank = _scoring(["RerankRequest"], "RerankAnswer", "Rank documents: Cohere, Jina, vLLM, infinity.", "rerank")
    either = _scoring(
        ["RerankRequest", "TextsRequest"],
        "RerankAnswer",
        "The same; with `texts` in place of `documents` text-embeddings-inference's request and answer.",
        "rerank",
    )
    either["responses"]["200"]["content"]["application/json"]["schema"] = {
        "anyOf": [{"$ref": _SCHEMAS + "RerankAnswer"}, {"$ref": _SCHEMAS + "TextsAnswer"}]
    }
    score = _scoring(["ScoreRequest"], "ScoreAnswer", "Scores in the texts' order: vLLM.", "score")
    for operation in (rerank, either):
        operation["responses"]["200"]["content"]["text/event-stream"] = {
            "schema": {"type": "string"},
            "example": 'event: ranking\ndata: {"results": [], "incomplete": {"because": "pending"}}\n\nevent: done\n'
            "data: [DONE]\n\n",
        }
    probes = {
        "/health": ("Whether the process can go on.", ["503"]),
        "/ready": ("Whether requests are accepted.", ["503"]),
        "/info": ("What runs, with text-embeddings-inference's names; ?model= names one.", ["404", "503"]),
        "/models": ("The served models, as OpenAI lists them.", []),
        "/v1/models": ("The same.", []),
        "/stats": ("What the page at / shows.", []),
        "/metrics": ("For Prometheus.", []),
    }
    paths: dict[str, Any] = {
        "/v2/rerank": {"post": _named(rerank, "rerank_v2")},
        "/v1/rerank": {"post": _named(rerank, "rerank_v1")},
        "/rerank": {"post": _named(either, "rerank_or_texts")},
        "/score": {"post": _named(score, "score")},
        "/v1/score": {"post": _named(score, "score_v1")},
    }
    for path, (summary, errors) in probes.items():
        kind = "text/plain" if path == "/metrics" else "application/json"
        paths[path] = {
            "get": {
                "operationId": path.strip("/").replace("/", "_"),
                "summary": summary,
                "tags": ["probes"],
                "responses": {
                    "200": {"description": "As said.", "content": {kind: {"schema": {}}}},
                    **{status: {"description": _ERRORS[status]} for status in errors},
                },
            }
        }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "crossrank",
            "version": __version__,
            "description": "Reranking for clients of Cohere, Jina, vLLM, infinity and text-embeddings-inference.",
        },
        "paths": paths,
        "components": {"schemas": {**schemas.get("$defs", {}), **_ANSWERS}},
    }
    if settings.keys_file is not None:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path in ("/v2/rerank", "/v1/rerank", "/rerank", "/score", "/v1/score"):
            paths[path]["post"]["security"] = [{"key": []}]
    return document


def _scoring(requests: list[str], answer: str, summary: str, tag: str) -> dict[str, Any]:
    references = [{"$ref": _SCHEMAS + name} for name in requests]
    return {
        "summary": summary,
        "tags": [tag],
        "parameters": [
            {
                "name": "X-Deadline-Ms",
                "in": "header",
                "description": "Milliseconds from the request on after which the answer holds what is scored.",
                "schema": {"type": "number", "minimum": 0},
                "example": 200,
            },
            {"name": "X-Request-Id", "in": "header", "description": "Given back.", "schema": {"type": "string"}},
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": references[0] if len(references) == 1 else {"anyOf": references}}
            },
        },
        "responses": {
            "200": {
                "description": "The answer. Where documents have no score, the header X-Incomplete says why; where "
                "some were cut, X-Truncated says how many, and whether a query was.",
                "headers": {
                    "X-Incomplete": {"schema": {"type": "string"}, "example": "deadline; unscored=12"},
                    "X-Truncated": {"schema": {"type": "string"}, "example": "3; query"},
                },
                "content": {"application/json": {"schema": {"$ref": _SCHEMAS + answer}}},
            },
            **{
                status: {
                    "description": text,
                    "content": {"application/json": {"schema": {"$ref": _SCHEMAS + "Error"}}},
                    **(
                        {"headers": {"Retry-After": {"schema": {"type": "integer"}, "example": 2}}}
                        if status in {"429", "503"}
                        else {}
                    ),
                }
                for status, text in _ERRORS.items()
            },
        },
    }


def _named(operation: dict[str, Any], name: str) -> dict[str, Any]:
    return {"operationId": name, **operation}
