"""The models that ship inside the package, and the cascades made of them."""

from __future__ import annotations

from pathlib import Path

from crossrank.errors import ArtifactError
from crossrank.models.artifact import is_artifact

DEFAULT_MODEL = "default"
"""Name of the embedded model that is used where none is named."""
SMALL_MODEL = "default-small"
"""Name of its two-layer companion, for first stages and wherever time is short; int8 on the CPU only."""
EMBEDDED_MODELS = (DEFAULT_MODEL, SMALL_MODEL)
"""Names of all embedded models; each has a folder of its name beside this file."""

_FOLDER = Path(__file__).parent

DEFAULT_CASCADE = _FOLDER / DEFAULT_MODEL / "cascade.toml"
"""Stages of the default cascade in int8 on the CPU, which may use every embedded model."""
DEFAULT_CASCADE_OF_ONE_MODEL = _FOLDER / DEFAULT_MODEL / "cascade_of_one_model.toml"
"""Stages of the default cascade elsewhere: `DEFAULT_MODEL` alone, which has graphs in other precisions too."""


def embedded_artifact(name: str = DEFAULT_MODEL) -> Path:
    """Folder of an embedded model's artifact.

    Args:
        name: one of `EMBEDDED_MODELS`.

    Raises:
        ArtifactError: it is missing in this installation.
    """
    folder = _FOLDER / name / "artifact"
    if not is_artifact(folder):
        raise ArtifactError(
            f"the embedded model {name!r} is missing at {folder}; install crossrank again, or in a source checkout run "
            f"'make {name}-model'"
        )
    return folder
