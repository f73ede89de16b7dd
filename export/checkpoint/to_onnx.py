"""From a PyTorch checkpoint to an ONNX graph in float32: the one module that knows optimum."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.errors import ExportError, UnsupportedCheckpointError
from crossrank.export.checkpoint.quiet import quiet_libraries
from crossrank.export.checkpoint.torch_model import SEGMENTS, has_one_segment
from crossrank.export.dependencies import EXPORT_MODULES, require
from crossrank.export.graph.files import out_of_room
from crossrank.export.graph.interface import check_interface

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from crossrank.export.checkpoint.checkpoint import Checkpoint

OPSET = 17
"""Newest operator set of the TorchScript exporter whose graphs onnxruntime's attention fusion recognises."""


def to_onnx(checkpoint: Checkpoint, model: Any) -> onnx.ModelProto:
    """Export a loaded checkpoint.

    The TorchScript exporter is used: from the newer (dynamo) one onnxruntime's optimizer recognises no attention.

    Args:
        checkpoint: what is exported.
        model: the same as a PyTorch model in float32, from `load_torch_model`.

    Returns:
        A graph of opset 17 with int64 inputs [batch, sequence] and the float32 output "logits" [batch, labels].
        The same checkpoint gives the same bytes on one set of library versions.

    Raises:
        MissingDependencyError: the export extra is not installed.
        UnsupportedCheckpointError: optimum has no exporter for the architecture.
        ExportError: the exporter failed.
    """
    require(EXPORT_MODULES, extra="export", purpose="exporting a checkpoint")
    import onnx

    with tempfile.TemporaryDirectory(prefix="crossrank-") as folder, quiet_libraries():
        path = Path(folder) / "model.onnx"
        with _without_branches(checkpoint.architecture.model_type):
            _export(checkpoint, model, path)
        graph = onnx.load(path)
    _strip(graph)
    check_interface(graph)
    return graph


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


def _strip(graph: onnx.ModelProto) -> None:
    """Remove traces of the machine that exported (paths in doc strings, metadata)."""
    graph.doc_string = ""
    del graph.metadata_props[:]
    graph.graph.doc_string = ""
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for tensor in graph.graph.initializer:
        tensor.doc_string = ""


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
