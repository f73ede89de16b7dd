"""From a PyTorch checkpoint to an ONNX graph in float32: by one of two exporters, or written here for a decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.export.checkpoint.optimum_exporter import export_with_optimum
from crossrank.export.checkpoint.quiet import quiet_libraries
from crossrank.export.checkpoint.torch_exporter import export_with_torch
from crossrank.export.dependencies import require_export
from crossrank.export.graph.interface import check_interface

if TYPE_CHECKING:
    import onnx

    from crossrank.export.checkpoint.checkpoint import Checkpoint
    from crossrank.export.dependencies import Exporter


def to_onnx(checkpoint: Checkpoint, model: Any, exporter: Exporter | None = None) -> onnx.ModelProto:
    """Export a loaded checkpoint.

    Args:
        checkpoint: what is exported.
        model: the same as a PyTorch model in float32, from `load_torch_model`.
        exporter: what makes the graph of an encoder; None for the first that is installed.

    Returns:
        A graph with int64 inputs [batch, sequence] and the float32 output "logits" [batch, labels]. The same
        checkpoint gives the same bytes on one set of library versions.

    Raises:
        MissingDependencyError: the exporter, or something else the export needs, is not installed.
        UnsupportedCheckpointError: the exporter does not know the architecture.
        ExportError: the exporter failed.
    """
    if checkpoint.causal:
        from crossrank.export.decoder.graph import write_graph
        from crossrank.export.decoder.weights import DecoderWeights

        written = write_graph(DecoderWeights(model, checkpoint))
        check_interface(written)
        return written
    export = {"optimum": export_with_optimum, "torch": export_with_torch}[require_export(exporter)]
    with quiet_libraries():
        graph = export(checkpoint, model)
    _strip(graph)
    check_interface(graph)
    return graph


def _strip(graph: onnx.ModelProto) -> None:
    """Remove traces of the machine that exported (paths in doc strings, metadata)."""
    graph.doc_string = ""
    del graph.metadata_props[:]
    graph.graph.doc_string = ""
    del graph.graph.metadata_props[:]
    for part in (graph.graph.node, graph.graph.initializer, graph.graph.input, graph.graph.output):
        for item in part:
            item.doc_string = ""
            del item.metadata_props[:]
    # The exporters' own shapes, with names for dimensions that differ between them; passes determine shapes by runs.
    del graph.graph.value_info[:]
