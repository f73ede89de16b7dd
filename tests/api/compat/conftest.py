"""What the tests of `crossrank.compat` share: a tiny model with one label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tiny_artifacts import write_artifact

from crossrank.compat import CrossEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Callable[..., Path], tiny_graphs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifact of a model with one label, whose scores are sigmoids."""
    out = tmp_path_factory.mktemp("compat") / "one"
    return write_artifact(out, tiny_checkpoint("bert"), tiny_graphs, activation="sigmoid")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[CrossEncoder]:
    """That model, open."""
    with CrossEncoder(folder, device="cpu") as model:
        yield model
