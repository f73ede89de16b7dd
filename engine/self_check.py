"""Scoring an artifact's reference pairs again, to see whether this machine agrees with the one that exported it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.activation import relevance_logits
from crossrank.engine.encoding import PairEncoder
from crossrank.engine.session import GraphSession
from crossrank.models.artifact import Artifact

if TYPE_CHECKING:
    from pathlib import Path

    from crossrank.models.manifest import Precision

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
    encoder = PairEncoder.load(
        artifact.path(manifest.tokenizer), max_length=manifest.max_length, pad_token_id=manifest.pad_token_id
    )
    pairs = encoder.pair(
        [encoder.encode_query(pair.query) for pair in manifest.reference_pairs],
        np.arange(len(manifest.reference_pairs)),
        encoder.encode_documents([pair.document for pair in manifest.reference_pairs]),
    )
    checks = []
    for graph in manifest.graphs:
        # Not through a reranker, which chooses a graph by precision: there may be one of that precision for CUDA too.
        session = GraphSession(artifact.path(graph.file), manifest, threads=1, spin=False)
        outputs = [
            session.run(encoder.assemble(pairs, np.asarray([place]), int(length)))
            for place, length in enumerate(pairs.lengths)
        ]
        recorded = np.asarray(graph.reference_logits, dtype=np.float32)
        logits = relevance_logits(np.concatenate(outputs), manifest.positive_label) if outputs else recorded
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
