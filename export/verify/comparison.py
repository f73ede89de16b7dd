"""Comparing what the engine makes of an artifact with a reference that read the checkpoint by itself."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.errors import FidelityError, InferenceError, TruncationWarning
from crossrank.export.checkpoint.torch_model import load_torch_model
from crossrank.export.verify.cross_encoder_reference import CrossEncoderReference, suits_cross_encoder
from crossrank.export.verify.fidelity import significant
from crossrank.export.verify.probes import compare_ids, largest_difference, make_probes
from crossrank.export.verify.reference import TorchReference
from crossrank.export.verify.verification import MAX_FP32_DIFFERENCE
from crossrank.models.manifest import Verification

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from crossrank.export.assembly import Assembly
    from crossrank.export.checkpoint.checkpoint import Checkpoint
    from crossrank.export.verify.reference import Reference


def load_reference(checkpoint: Checkpoint) -> Reference:
    """The library that saved a checkpoint, where it is installed, with the checkpoint loaded by itself.

    Raises:
        UnsupportedCheckpointError: the library cannot load it.
    """
    if suits_cross_encoder(checkpoint):
        return CrossEncoderReference(checkpoint, TorchReference(checkpoint, None))
    return TorchReference(checkpoint, load_torch_model(checkpoint, for_export=False))


def read_limits(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Numbers of tokens around which a misread configuration shows: the reach of local attention."""
    window = checkpoint.config.get("local_attention")
    stated = [window, window // 2] if _is_count(window) else []
    buckets = checkpoint.config.get("position_buckets")
    stated += [buckets] if _is_count(buckets) else []
    return tuple(sorted({int(limit) for limit in stated if limit}))


def compare_on_probes(assembly: Assembly, reference: Reference, limits: Iterable[int] = ()) -> Verification:
    """Compare the float32 graph of an artifact with its reference on pairs that tell misreadings apart.

    Args:
        assembly: with the tokenizer and the float32 graph placed and verified.
        reference: the library that saved the checkpoint.
        limits: numbers of tokens around which documents should end.

    Returns:
        What was compared, for manifest and report.

    Raises:
        FidelityError: token ids or logits differ; the message has the pair.
    """
    encoder = assembly.encoder()
    probes = make_probes(encoder, limits)
    with assembly.recorder.step("compare on probe pairs"):
        compare_ids(encoder, reference, probes.all, segments=assembly.checkpoint.uses_segment_ids)
        theirs = reference.logits(probes.scored)
        ours = score_fp32(assembly, probes.scored)
        difference = float(np.max(np.abs(ours - theirs), initial=0.0))
    if not difference <= MAX_FP32_DIFFERENCE:
        raise FidelityError(
            f"the fp32 graph and the reference ({reference.description}) differ by {difference:g} on the pair "
            f"{largest_difference(ours, theirs, probes.scored)}, {MAX_FP32_DIFFERENCE:g} at most expected; nothing was "
            f"written"
        )
    return Verification(
        reference=reference.description,
        tokens=f"the reference's, on {len(probes.all)} probe pairs of up to {encoder.max_length} tokens",
        probes=len(probes.scored),
        max_abs_difference=significant(difference),
    )


def score_fp32(assembly: Assembly, pairs: tuple[tuple[str, str], ...]) -> NDArray[np.float32]:
    """Logits of the float32 graph by the engine, one pair a run.

    Raises:
        FidelityError: a score is no number.
    """
    from crossrank.engine.artifact_reranker import ArtifactReranker

    options: dict[str, Any] = {"provider": "cpu", "precision": "fp32", "activation": "identity"}
    try:
        with warnings.catch_warnings(), ArtifactReranker(assembly.folder, max_batch_tokens=1, **options) as alone:
            warnings.simplefilter("ignore", TruncationWarning)
            return alone.score_pairs(list(pairs))
    except InferenceError as error:
        raise FidelityError(f"the fp32 graph failed on the probe pairs: {error}") from error


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
