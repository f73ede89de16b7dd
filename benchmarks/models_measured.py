"""Which artifact serves each precision that is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.models.artifact import Artifact
from crossrank.models.errors import CrossrankError, PrecisionError
from crossrank.resolve import resolve_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.models.manifest import Precision


def find_artifacts(
    model: str, precisions: Sequence[Precision], checkpoint: Path | None
) -> tuple[dict[Precision, Path], dict[Precision, str]]:
    """Find an artifact for each precision.

    A precision that the model's artifact lacks is exported from the checkpoint, once into the cache, so that the
    embedded model, which ships without a float32 graph, can be measured in float32 too.

    Args:
        model: as `crossrank.Reranker` takes it.
        precisions: wanted ones.
        checkpoint: folder with the same weights, or None.

    Returns:
        The artifact folder of each precision, in the order wanted, and why the others are missing.

    Raises:
        PrecisionError: none of them is to be had.
    """
    found: dict[Precision, Path] = {}
    missing: dict[Precision, str] = {}
    for precision in precisions:
        folder = resolve_model(model, provider="cpu", precision=precision)
        if Artifact.open(folder).find_graph(precision, "cpu") is not None:
            found[precision] = folder
        elif checkpoint is None:
            missing[precision] = f"{folder} has no {precision} graph for the CPU, and no checkpoint was given"
        else:
            try:
                found[precision] = resolve_model(checkpoint, provider="cpu", precision=precision)
            except CrossrankError as error:
                missing[precision] = str(error)
    if not found:
        raise PrecisionError("; ".join(missing.values()))
    return found, missing
