"""Whether the engine's scores here equal those of the plain graph on the CPU, and those recorded at export."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.engine.runtime.reference_pairs import TOLERANCE, artifact_encoder, encode_pairs, plain_logits
from crossrank.errors import TruncationWarning
from crossrank.export.verify.fidelity import kendall_tau
from crossrank.self_check.differences import BATCH_TOLERANCE, relative_difference
from crossrank.self_check.result import CheckResult

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.models.manifest import Graph, Precision
    from crossrank.self_check.subject import Subject

NAME = "parity"


def check_parity(subject: Subject, precision: Precision) -> CheckResult:
    """Compare the engine's scores of the reference pairs, and of pairs of every length, with a reference.

    The reference is the artifact's fp32 graph, run on the CPU one pair at a time. Where the artifact has no fp32 graph,
    and for int8 (whose distance to fp32 is verified at export), it is the engine's own graph, run the same way.

    The same graph on the same processor may differ only by what a batch may cause; another graph, another device, and
    the machine that recorded the logits at export by what another processor may show. The ranking is not checked
    separately: within the tolerance, only pairs whose logits differ by less than twice the tolerance can change places.
    """
    manifest, texts = subject.artifact.manifest, subject.texts
    recorded_pairs = [(pair.query, pair.document) for pair in manifest.reference_pairs]
    lengths = texts.lengths()
    documents = texts.of_lengths(lengths)
    documents.append(" ".join(documents[-2:]))  # longer than the model reads
    pairs = [*recorded_pairs, *((texts.query, document) for document in documents)]
    with subject.engine(precision) as engine, warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        logits = engine.score_pairs(pairs)
    graph = subject.graph(precision)
    fp32_graph = next((other for other in manifest.graphs if other.precision == "fp32"), None)
    reference = fp32_graph if fp32_graph is not None and precision != "int8" else graph
    expected = _plain_logits(subject, reference, pairs)
    recorded = np.asarray(graph.reference_logits, dtype=np.float32)
    to_recorded = relative_difference(logits[: len(recorded)], recorded)
    to_reference = relative_difference(logits, expected)
    same = reference.file == graph.file and subject.provider == "cpu"
    tolerance = BATCH_TOLERANCE[precision] if same else TOLERANCE[precision]
    recorded_tolerance = TOLERANCE[precision]
    figures: dict[str, Any] = {
        "pairs": len(pairs),
        "shortest": lengths[0],
        "longest": lengths[-1],
        "reference": f"{reference.file} on the CPU, one pair a run",
        "to_reference": to_reference,
        "kendall_tau": _tau(expected, logits),
        "to_recorded": to_recorded,
        "recorded_pairs": len(recorded),
        "tolerance": tolerance,
        "recorded_tolerance": recorded_tolerance,
        "logits": [float(value) for value in logits],
        "expected": [float(value) for value in expected],
    }
    if precision == "int8" and fp32_graph is not None:
        fp32 = _plain_logits(subject, fp32_graph, pairs)
        figures["fp32"] = {"difference": relative_difference(logits, fp32), "kendall_tau": _tau(fp32, logits)}
    detail = (
        f"{len(pairs)} pairs of up to {lengths[-1]} tokens: difference {to_reference:.2g} to {figures['reference']} "
        f"(tau {figures['kendall_tau']:.3f}), {tolerance:g} allowed; {to_recorded:.2g} to what the export recorded, "
        f"{recorded_tolerance:g} allowed"
    )
    passed = to_reference <= tolerance and to_recorded <= recorded_tolerance
    return CheckResult(NAME, passed, detail, figures, precision)


def _plain_logits(subject: Subject, graph: Graph, pairs: list[tuple[str, str]]) -> npt.NDArray[np.float32]:
    encoder = artifact_encoder(subject.artifact)
    return plain_logits(subject.artifact, graph, encoder, encode_pairs(encoder, pairs))


def _tau(expected: npt.NDArray[np.float32], logits: npt.NDArray[np.float32]) -> float:
    return kendall_tau(expected, logits) if expected.shape == logits.shape else 0.0
