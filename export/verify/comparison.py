"""Comparing what the engine makes of an artifact with a reference that read the checkpoint by itself."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.errors import FidelityError, InferenceError, TruncationWarning
from crossrank.export.checkpoint.torch_model import load_transformer
from crossrank.export.verify.cross_encoder_reference import CrossEncoderReference, suits_cross_encoder
from crossrank.export.verify.fidelity import significant
from crossrank.export.verify.head_by_numpy import HeadByNumpy
from crossrank.export.verify.language_model_reference import LanguageModelReference
from crossrank.export.verify.probes import compare_ids, largest_difference, make_probes
from crossrank.export.verify.reference import TorchReference, refuse_no_numbers
from crossrank.export.verify.verification import MAX_FP32_DIFFERENCE, rounding_scale
from crossrank.models.manifest import Verification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from crossrank.export.assembly import Assembly
    from crossrank.export.checkpoint.checkpoint import Checkpoint
    from crossrank.export.verify.reference import Reference
    from crossrank.models.manifest import Precision

MAX_DIFFERENCES: Mapping[Precision, float] = {"fp32": MAX_FP32_DIFFERENCE, "int8": 0.05, "fp16": 0.05}
"""Largest difference from the reference on a probe. A file that came in eight or sixteen bits is compared with itself,
but rounds otherwise where onnxruntime fuses otherwise; a misread text moves a score by more."""


_ACTIVATION_PAIRS = 8


def load_reference(checkpoint: Checkpoint) -> Reference:
    """The library that saved a checkpoint, where it is installed, with the checkpoint loaded by itself.

    Raises:
        UnsupportedCheckpointError: the library cannot load it.
    """
    if checkpoint.template is not None:
        return LanguageModelReference(checkpoint, load_transformer(checkpoint, for_export=False))
    if suits_cross_encoder(checkpoint):
        return CrossEncoderReference(checkpoint, TorchReference(checkpoint, None))
    transformer = load_transformer(checkpoint, for_export=False)
    return TorchReference(checkpoint, HeadByNumpy(transformer, checkpoint.folder) if checkpoint.head else transformer)


def read_limits(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Numbers of tokens around which a misread configuration shows: the reach of local attention."""
    window, buckets = (_count(checkpoint.config.get(key)) for key in ("local_attention", "position_buckets"))
    return tuple(sorted({window, window // 2, buckets} - {0}))


def compare_on_probes(
    assembly: Assembly,
    reference: Reference,
    limits: Iterable[int] = (),
    *,
    precision: Precision = "fp32",
    as_reference: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> Verification:
    """Compare a graph of an artifact with its reference on pairs that show misreadings.

    A probe pair may hold a token whose embedding is damaged, which no pair of the caller's has to. Pairs for which the
    reference itself gives no number are left out, and the assembly gets a note.

    Args:
        assembly: with the tokenizer and the graph placed and verified, the last one that was.
        reference: the library that saved the checkpoint, or the file a graph was imported from.
        limits: numbers of tokens around which documents should end.
        precision: which graph.
        as_reference: turns logits into what the reference gives; None where it gives logits.

    Returns:
        What was compared, for manifest and report.

    Raises:
        UnsupportedCheckpointError: the reference gives a number for none of the pairs.
        FidelityError: token ids or logits differ; the message has the pair.
    """
    encoder = assembly.encoder()
    probes = make_probes(encoder, limits)
    with assembly.recorder.step("compare on probe pairs"):
        compare_ids(encoder, reference, probes.all, segments=assembly.checkpoint.uses_segment_ids)
        theirs = reference.logits(probes.scored)
        numbers = np.isfinite(theirs)
        if not numbers.any():
            refuse_no_numbers(theirs, reference, assembly.checkpoint.source.id)
        scored = tuple(pair for pair, is_number in zip(probes.scored, numbers, strict=True) if is_number)
        theirs = theirs[numbers]
        ours = score_alone(assembly, scored, precision)
        if as_reference is not None:
            ours = as_reference(ours)
        difference = float(np.max(np.abs(ours - theirs), initial=0.0))
    most = MAX_DIFFERENCES[precision] * rounding_scale(theirs)
    if not difference <= most:
        raise FidelityError(
            f"the {precision} graph and the reference ({reference.description}) differ by {difference:g} on the pair "
            f"{largest_difference(ours, theirs, scored)}, {most:g} at most expected; nothing was written"
        )
    if isinstance(reference, CrossEncoderReference):
        reference.check_activation(scored[:_ACTIVATION_PAIRS], ours[:_ACTIVATION_PAIRS])
    if len(scored) < len(probes.scored):
        assembly.probe_notes.append(
            f"the checkpoint itself gives no number for {len(probes.scored) - len(scored)} of {len(probes.scored)} "
            f"probe pairs; its weights may hold NaN"
        )
    return Verification(
        reference=reference.description,
        tokens=f"the reference's, on {len(probes.all)} probe pairs of up to {encoder.max_length} tokens",
        probes=len(scored),
        max_abs_difference=significant(difference),
    )


def score_alone(assembly: Assembly, pairs: tuple[tuple[str, str], ...], precision: Precision) -> NDArray[np.float32]:
    """Logits of a graph by the engine, one pair a run.

    Raises:
        FidelityError: a score is no number.
    """
    from crossrank.engine.artifact_reranker import ArtifactReranker

    options: dict[str, Any] = {"provider": "cpu", "precision": precision, "activation": "identity"}
    try:
        with warnings.catch_warnings(), ArtifactReranker(assembly.folder, max_batch_tokens=1, **options) as alone:
            warnings.simplefilter("ignore", TruncationWarning)
            return alone.score_pairs(list(pairs))
    except InferenceError as error:
        raise FidelityError(f"the {precision} graph failed on the probe pairs: {error}") from error


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
