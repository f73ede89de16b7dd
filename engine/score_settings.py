"""What decides the scores that a reranker gives: the one list of it, for whoever keeps scores to use them again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.models.artifact import MANIFEST_NAME, sha256_of

if TYPE_CHECKING:
    from crossrank.engine.artifact_reranker import ArtifactReranker


def score_settings(reranker: ArtifactReranker) -> dict[str, Any]:
    """All of an open reranker that decides what its scores are, for JSON.

    Scores may be taken for those of another reranker where this is equal for both. What decides them besides are the
    machine, the version of onnxruntime and that of crossrank, which some who keep scores leave to their users.

    Args:
        reranker: as it is open, for calls without an instruction of their own.

    Returns:
        The digests of the manifest (template, label, layout of pairs) and of the graph that runs; precision, provider,
        activation and instruction; what is read of texts (tokenizer, length, truncation, windows).
    """
    info = reranker.info()
    return {
        "manifest_sha256": sha256_of(Path(info.artifact) / MANIFEST_NAME),
        "graph_sha256": info.graph_sha256,
        "precision": info.precision,
        "provider": info.provider,
        "activation": info.activation,
        "instruction": info.instruction,
        "texts": reranker.prepared_key,
    }
