"""Finds or exports the artifact of each precision that is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.errors import CrossrankError, PrecisionError
from crossrank.models.artifact import Artifact
from crossrank.resolve import resolve_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.models.manifest import Precision, Provider


def find_artifacts(
    model: str, precisions: Sequence[Precision], checkpoint: Path | None, provider: Provider = "cpu"
) -> tuple[dict[Precision, Path], dict[Precision, str]]:
    """Find an artifact for each precision.

    A precision that the model's artifact lacks is exported from the checkpoint into the cache, once. So the embedded
    model, which is shipped without a float32 graph, can be measured in float32 too.

    Args:
        model: as `crossrank.Reranker` takes it.
        precisions: to find artifacts for.
        checkpoint: folder with the same weights, or None.
        provider: execution provider that the graphs must be for.

    Returns:
        The artifact folder of each available precision, in the given order, and for each other one the reason.

    Raises:
        PrecisionError: no precision is available.
        ProviderError: the model has to be exported, and the provider does not work here.
    """
    folders: dict[Precision, Path] = {}
    missing: dict[Precision, str] = {}
    for precision in precisions:
        folder = resolve_model(model, provider=provider, precision=precision)
        if Artifact.open(folder).find_graph(precision, provider) is not None:
            folders[precision] = folder
        elif checkpoint is None:
            missing[precision] = (
                f"{folder} has no {precision} graph for provider {provider!r}, and no checkpoint was given"
            )
        else:
            try:
                folders[precision] = resolve_model(checkpoint, provider=provider, precision=precision)
            except CrossrankError as error:
                missing[precision] = str(error)
    if not folders:
        raise PrecisionError("; ".join(missing.values()))
    return folders, missing
