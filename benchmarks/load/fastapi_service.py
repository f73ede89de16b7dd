"""A plain FastAPI service around sentence-transformers, as many are written: what the HTTP service is compared with.

Runs with the Python of an environment that has fastapi, uvicorn and sentence-transformers, and imports nothing of
crossrank: fastapi_service.py CHECKPOINT PORT.
"""

import sys
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI
from sentence_transformers import CrossEncoder

app = FastAPI()
model = CrossEncoder(sys.argv[1], device="cpu")


def health() -> dict[str, str]:
    """Answers when the model is loaded."""
    return {"status": "ok"}


def rerank(query: Annotated[str, Body()], documents: Annotated[list[str], Body()]) -> dict[str, Any]:
    """Score in one of the framework's threads."""
    ranked = model.rank(query, documents, show_progress_bar=False)
    return {"results": [{"index": item["corpus_id"], "relevance_score": float(item["score"])} for item in ranked]}


app.add_api_route("/health", health)
app.add_api_route("/rerank", rerank, methods=["POST"])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
