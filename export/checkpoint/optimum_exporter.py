"""The exporter that goes through optimum, which drives torch's TorchScript exporter: the one module with optimum."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.errors import ExportError, UnsupportedCheckpointError
from crossrank.export.checkpoint.torch_model import SEGMENTS, has_one_segment
from crossrank.export.graph.files import out_of_room

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from crossrank.export.checkpoint.checkpoint import Checkpoint

OPSET = 17
"""Newest operator set of the TorchScript exporter whose graphs onnxruntime's fusions were written for."""


def export_with_optimum(checkpoint: Checkpoint, model: Any) -> onnx.ModelProto:
    """Export a loaded checkpoint.

    Args:
        checkpoint: what is exported.
        model: the same as a PyTorch model in float32.

    Raises:
        UnsupportedCheckpointError: optimum has no exporter for the architecture.
        ExportError: the exporter failed.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="crossrank-") as folder:
        path = Path(folder) / "model.onnx"
        with _without_branches(checkpoint.architecture.model_type):
            _export(checkpoint, model, path)
        return onnx.load(path)


def _export(checkpoint: Checkpoint, model: Any, path: Path) -> None:
    import optimum.exporters.onnx.model_configs  # noqa: F401  registers the architectures
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager

    model_type = checkpoint.architecture.model_type
    try:
        make_config = TasksManager.get_exporter_config_constructor(
            "onnx", model=model, task="text-classification", library_name="transformers"
        )
    except (KeyError, ValueError) as error:
        raise UnsupportedCheckpointError(
            f"optimum cannot export {model_type!r} for text classification: {error}"
        ) from error
    config = make_config(model.config)
    if has_one_segment(model) and SEGMENTS in config.inputs:
        _leave_segments_out(config)
    try:
        export(model, config, path, opset=OPSET, device="cpu")
    except MemoryError:
        raise
    except Exception as error:
        if out_of_room(error):
            raise ExportError(
                f"the graph of {checkpoint.source.id} does not fit into the temporary folder {path.parent}: {error}; "
                f"set TMPDIR to a folder with more room"
            ) from error
        raise ExportError(f"optimum failed to export {checkpoint.source.id} ({model_type}): {error}") from error


def _leave_segments_out(config: Any) -> None:
    """Export without token_type_ids: the model then takes its only segment for every token.

    optimum would trace with random ids of two segments, of which the model has one.
    """

    class WithoutSegments(type(config)):  # type: ignore[misc]  # optimum's class of this family
        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return {name: axes for name, axes in super().inputs.items() if name != SEGMENTS}

    config.__class__ = WithoutSegments


@contextlib.contextmanager
def _without_branches(model_type: str) -> Iterator[None]:
    """Keep DeBERTa-v2's scripted choice between two position tables out of the graph.

    `build_rpos` picks new relative positions where query and key lengths differ, which in an encoder they never do;
    scripted, the choice becomes one `If` a layer, which CUDA graphs forbid and graph passes cannot see through.
    """
    if model_type != "deberta-v2":
        yield
        return
    from transformers.models.deberta_v2 import modeling_deberta_v2 as modeling

    original = modeling.build_rpos
    modeling.build_rpos = _same_lengths
    try:
        yield
    finally:
        modeling.build_rpos = original


def _same_lengths(_query: Any, _key: Any, relative_pos: Any, *_settings: Any) -> Any:
    return relative_pos
