"""What every test shares: no network, and tiny checkpoints made once a session."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

# Before anything imports huggingface_hub, which reads these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Before anything imports onnxruntime, which reads it once, and whatever imports crossrank first.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import pytest
from hypothesis import HealthCheck, settings

# Examples are bounded by their number: how long one takes depends on who else uses the machine. CI draws the same ones
# every time, so that what it says of a change is about the change; everybody else draws new ones.
settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("shared machine")

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx

    from crossrank.export.dependencies import Exporter


@pytest.fixture(scope="session", autouse=True)
def no_folders_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Exports and calibrations that the user of this machine keeps are neither read nor added to."""
    folder = tmp_path_factory.mktemp("user")
    os.environ["CROSSRANK_CACHE"] = str(folder / "exports")
    os.environ["CROSSRANK_CALIBRATION"] = str(folder / "calibration")


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
    """A function like `tiny_checkpoint` that gives the graph before any pass, from the exporter named.

    `exporter="own"` is crossrank's export, by the exporter it takes where none is named; "torch" the same by
    `torch.onnx`; "optimum" optimum's command line, which writes attention in another form and is what a user's own
    ONNX file most likely came from (tests that ask for it are skipped where it is not installed).
    """
    import onnx

    made: dict[tuple[Path, str], onnx.ModelProto] = {}
    root = tmp_path_factory.mktemp("raw")

    def get(family: str, *, exporter: str = "own", **options: object) -> onnx.ModelProto:
        checkpoint = tiny_checkpoint(family, **options)
        key = (checkpoint, exporter)
        if key not in made:
            if exporter == "optimum":
                pytest.importorskip("optimum.exporters.onnx")
                made[key] = _export_optimum(checkpoint, root / f"{checkpoint.name}-{exporter}")
            else:
                made[key] = _export_own(checkpoint, None if exporter == "own" else exporter)
        copy = onnx.ModelProto()
        copy.CopyFrom(made[key])
        return copy

    return get


def _export_own(checkpoint: Path, exporter: Exporter | None) -> onnx.ModelProto:
    from crossrank.export.checkpoint.checkpoint import read_checkpoint
    from crossrank.export.checkpoint.to_onnx import to_onnx
    from crossrank.export.checkpoint.torch_model import load_torch_model

    found = read_checkpoint(checkpoint, positive_label=0)  # which the graph does not depend on
    return to_onnx(found, load_torch_model(found), exporter)


def _export_optimum(checkpoint: Path, folder: Path) -> onnx.ModelProto:
    import onnx
    from optimum.exporters.onnx import main_export

    main_export(str(checkpoint), output=str(folder), task="text-classification", opset=17, do_validation=False)
    return onnx.load(folder / "model.onnx")


@pytest.fixture(scope="session")
def tiny_graphs(raw_graph: Callable[..., onnx.ModelProto], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the graphs of the tiny BERT in every precision: fp32.onnx, int8.onnx, fp16.onnx."""
    from tiny_artifacts import save_graphs

    folder = tmp_path_factory.mktemp("graphs")
    optimum = importlib.util.find_spec("optimum") is not None
    save_graphs(raw_graph("bert", exporter="optimum" if optimum else "own"), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_artifact(
    tiny_checkpoint: Callable[..., Path], tiny_graphs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Artifact of the tiny BERT with fp32 and int8 graphs for the CPU; never to be changed, copy it."""
    from tiny_artifacts import write_artifact

    return write_artifact(tmp_path_factory.mktemp("artifact") / "tiny", tiny_checkpoint("bert"), tiny_graphs)
