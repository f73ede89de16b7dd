"""Scoring an artifact's reference pairs again, to see whether this machine agrees with the one that exported it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.runtime.logits import relevance_logits
from crossrank.engine.runtime.session import GraphSession
from crossrank.engine.text.encoding import PairEncoder
from crossrank.models.artifact import Artifact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.engine.text.encoding import EncodedPairs
    from crossrank.models.manifest import Graph, Precision

TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 3e-2, "int8": 0.5}
"""Largest difference of a logit, relative to max(1, |logit|), that another processor may show.

Processors round float32 sums in other orders (1e-3 is far above that), and int8 turns such a difference now and then
into one step of a quantized value, which moved logits of the embedded model by up to 0.12.
"""


@dataclass(frozen=True)
class GraphCheck:
    """Result for one graph.

    Attributes:
        file: the graph.
        precision: its precision.
        pairs: how many reference pairs were scored.
        largest_difference: largest |logit - recorded| / max(1, |recorded|).
        tolerance: what it may be.
    """

    file: str
    precision: Precision
    pairs: int
    largest_difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether this machine agrees."""
        return self.largest_difference <= self.tolerance


def check_reference_pairs(folder: str | Path) -> list[GraphCheck]:
    """Score the reference pairs with every graph of an artifact, one pair a run, on the CPU.

    Raises:
        ArtifactError: the artifact is damaged.
        InferenceError: a graph does not run here.
        MissingDependencyError: onnxruntime is not installed.
    """
    artifact = Artifact.open(folder)
    artifact.verify()
    manifest = artifact.manifest
    encoder = artifact_encoder(artifact)
    pairs = encode_pairs(encoder, [(pair.query, pair.document) for pair in manifest.reference_pairs])
    checks = []
    for graph in manifest.graphs:
        recorded = np.asarray(graph.reference_logits, dtype=np.float32)
        logits = plain_logits(artifact, graph, encoder, pairs)
        differences = np.abs(logits - recorded) / np.maximum(1, np.abs(recorded))
        checks.append(
            GraphCheck(
                file=graph.file,
                precision=graph.precision,
                pairs=len(pairs),
                largest_difference=float(differences.max(initial=0.0)),
                tolerance=TOLERANCE[graph.precision],
            )
        )
    return checks


def artifact_encoder(artifact: Artifact) -> PairEncoder:
    """The artifact's own encoder, for pairs as long as the model reads.

    Raises:
        ArtifactError: its tokenizer cannot be used.
    """
    manifest = artifact.manifest
    return PairEncoder.load(
        artifact.path(manifest.tokenizer), max_length=manifest.max_length, pad_token_id=manifest.pad_token_id
    )


def encode_pairs(encoder: PairEncoder, pairs: Sequence[tuple[str, str]]) -> EncodedPairs:
    """Encode (query, document) pairs, each with a query of its own."""
    return encoder.pair(
        [encoder.encode_query(query) for query, _ in pairs],
        np.arange(len(pairs)),
        encoder.encode_documents([document for _, document in pairs]),
    )


def plain_logits(
    artifact: Artifact, graph: Graph, encoder: PairEncoder, pairs: EncodedPairs
) -> npt.NDArray[np.float32]:
    """Logits of pairs the plainest way: one pair a run, on the CPU, without queue, plan or padding.

    Args:
        artifact: the graph's.
        graph: any of its graphs; one made for CUDA runs on the CPU through casts.
        encoder: of the artifact.
        pairs: n pairs of that encoder.

    Returns:
        float32 (n,).

    Raises:
        ArtifactError: the graph does not load.
        InferenceError: the graph does not run here.
        MissingDependencyError: onnxruntime is not installed.
    """
    manifest = artifact.manifest
    # Not through a reranker, which chooses a graph by precision: there may be another of that precision for CUDA.
    session = GraphSession(artifact.path(graph.file), manifest, threads=1, spin=False)
    outputs = [
        session.run(encoder.assemble(pairs, np.asarray([index]), int(length)))
        for index, length in enumerate(pairs.lengths)
    ]
    if not outputs:
        return np.empty(0, dtype=np.float32)
    return relevance_logits(np.concatenate(outputs), manifest.positive_label)
