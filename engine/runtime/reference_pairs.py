"""Scores an artifact's reference pairs again and compares them with the scores recorded at export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.runtime.causal_session import open_graph
from crossrank.engine.runtime.logits import relevance_logits
from crossrank.engine.text.encoding import PairEncoder
from crossrank.models.artifact import Artifact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.engine.text.encoded import EncodedPairs
    from crossrank.models.manifest import Graph, Precision

TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 3e-2, "int8": 0.5}
"""Largest difference of a logit, relative to max(1, |logit|), that another processor may show.

Processors add float32 numbers in different orders; 1e-3 is far above the rounding error that this makes. In int8 such
an error occasionally moves a quantized value by one step, which changed logits of the embedded model by up to 0.12.
"""


@dataclass(frozen=True)
class GraphCheck:
    """Result for one graph.

    Attributes:
        file: the graph's file, as the manifest names it.
        precision: the graph's precision.
        pairs: how many reference pairs were scored.
        largest_difference: largest |logit - recorded| / max(1, |recorded|).
        tolerance: the most that `largest_difference` may be.
    """

    file: str
    precision: Precision
    pairs: int
    largest_difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether this machine's scores agree with the recorded ones."""
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
    """The artifact's encoder, for pairs up to the model's maximum length.

    Raises:
        ArtifactError: the artifact's tokenizer cannot be used.
    """
    manifest = artifact.manifest
    return PairEncoder.load(
        artifact.path(manifest.tokenizer),
        max_length=manifest.max_length,
        pad_token_id=manifest.pad_token_id,
        template=manifest.template,
        causal=manifest.causal,
    )


def encode_pairs(encoder: PairEncoder, pairs: Sequence[tuple[str, str]]) -> EncodedPairs:
    """Encode (query, document) pairs."""
    return encoder.pair(
        [encoder.encode_query(query) for query, _ in pairs],
        np.arange(len(pairs)),
        encoder.encode_documents([document for _, document in pairs]),
    )


def plain_logits(
    artifact: Artifact, graph: Graph, encoder: PairEncoder, pairs: EncodedPairs
) -> npt.NDArray[np.float32]:
    """Logits computed in the simplest way: one pair a run, on the CPU, without queue, planner or padding.

    Args:
        artifact: the artifact.
        graph: any of its graphs; one made for CUDA runs on the CPU with casts.
        encoder: the artifact's encoder.
        pairs: n pairs encoded by it.

    Returns:
        float32 (n,).

    Raises:
        ArtifactError: the graph does not load.
        InferenceError: the graph does not run here.
        MissingDependencyError: onnxruntime is not installed.
    """
    manifest = artifact.manifest
    # A reranker would choose a graph by precision, but an artifact may have two of one precision, for CPU and CUDA.
    session = open_graph(artifact.path(graph.file), manifest, threads=1, spin=False)
    outputs = [
        session.run(encoder.assemble(pairs, np.asarray([index]), int(length)))
        for index, length in enumerate(pairs.lengths)
    ]
    if not outputs:
        return np.empty(0, dtype=np.float32)
    return relevance_logits(np.concatenate(outputs), manifest.positive_label)
