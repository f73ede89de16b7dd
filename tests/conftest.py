"""What every test shares: no network, and tiny checkpoints made once a session."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports huggingface_hub, which reads these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parent / "export"))

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function `(family, *, num_labels=1, layers=2, **config) -> folder`; equal calls share one folder."""
    from tiny_checkpoints import make_checkpoint

    made: dict[tuple, Path] = {}
    root = tmp_path_factory.mktemp("checkpoints")

    def get(family: str, *, num_labels: int = 1, layers: int = 2, **config: object) -> Path:
        key = (family, num_labels, layers, *sorted(config.items()))
        if key not in made:
            folder = root / f"{family}-{num_labels}-{layers}-{len(made)}"
            made[key] = make_checkpoint(family, folder, num_labels=num_labels, layers=layers, **config)
        return made[key]

    return get


@pytest.fixture(scope="session")
def raw_graph(
    tiny_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., onnx.ModelProto]:
    """A function like `tiny_checkpoint` that gives the graph as an exporter writes it, before any pass."""
    import onnx
    from optimum.exporters.onnx import main_export

    made: dict[Path, onnx.ModelProto] = {}
    root = tmp_path_factory.mktemp("raw")

    def get(family: str, **options: object) -> onnx.ModelProto:
        checkpoint = tiny_checkpoint(family, **options)
        if checkpoint not in made:
            folder = root / checkpoint.name
            main_export(
                str(checkpoint),
                output=str(folder),
                task="text-classification",
                opset=17,
                do_validation=False,
            )
            made[checkpoint] = onnx.load(folder / "model.onnx")
        copy = onnx.ModelProto()
        copy.CopyFrom(made[checkpoint])
        return copy

    return get


@pytest.fixture(scope="session")
def tiny_graphs(raw_graph: Callable[..., onnx.ModelProto], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the graphs of the tiny BERT in every precision: fp32.onnx, int8.onnx, fp16.onnx."""
    from tiny_artifacts import save_graphs

    folder = tmp_path_factory.mktemp("graphs")
    save_graphs(raw_graph("bert"), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_artifact(
    tiny_checkpoint: Callable[..., Path], tiny_graphs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Artifact of the tiny BERT with fp32 and int8 graphs for the CPU; never to be changed, copy it."""
    from tiny_artifacts import write_artifact

    return write_artifact(tmp_path_factory.mktemp("artifact") / "tiny", tiny_checkpoint("bert"), tiny_graphs)
