"""The model that ships inside the package."""

from __future__ import annotations

from pathlib import Path

from crossrank.errors import ArtifactError
from crossrank.models.artifact import is_artifact

DEFAULT_CASCADE = Path(__file__).parent / "default" / "cascade.toml"
"""Stages of the default cascade, which uses the embedded model only; made by `crossrank bench cascade`."""
DEFAULT_MODEL = "default"
"""Name of the embedded model."""


def default_artifact() -> Path:
    """Folder of the embedded model's artifact.

    Raises:
        ArtifactError: it is missing in this installation.
    """
    folder = Path(__file__).parent / DEFAULT_MODEL / "artifact"
    if not is_artifact(folder):
        raise ArtifactError(
            f"the embedded model is missing at {folder}; install crossrank again, or in a source checkout run "
            "'make default-model'"
        )
    return folder
