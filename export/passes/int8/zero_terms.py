"""Drops additions of zero, such as those of a mask that masks nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.export.graph.shapes import probe_shapes, probe_zeros
from crossrank.export.graph.tools import LARGE_BYTES, GraphView, bytes_of, reads, remove_dead, replace

if TYPE_CHECKING:
    import onnx


def drop_zero_terms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take out every `Add` one of whose terms is zero for every input, whatever the batch and the length.

    Args:
        model: a graph whose inputs are integer tensors [batch, sequence]; changed in place.

    Returns:
        The same model.
    """
    view = GraphView(model.graph)
    unknown = _of_unknown_value(model.graph)
    terms_of_adds = {name for node in model.graph.node if node.op_type == "Add" for name in node.input}
    candidates = terms_of_adds & view.producers.keys() - unknown
    if not candidates:
        return model
    zeros, shapes = probe_zeros(model, sorted(candidates)), probe_shapes(model)
    same: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        terms = [name for name in node.input if node.op_type != "Add" or name not in zeros]
        output = node.output[0]
        alone = node.op_type == "Add" and len(terms) == 1 and output not in view.outputs
        if alone and output in shapes and shapes.get(terms[0]) == shapes[output]:
            same[output] = same.get(terms[0], terms[0])
        else:
            kept.append(node)
    for node in kept:
        if not same.keys().isdisjoint(node.input):
            replace(node.input, [same.get(name, name) for name in node.input])
    replace(model.graph.node, kept)
    remove_dead(model.graph)
    return model


def _of_unknown_value(graph: onnx.GraphProto) -> set[str]:
    """Tensors that depend on the values of inputs or of weights, and not on shapes alone."""
    found = {value.name for value in graph.input}
    found |= {tensor.name for tensor in graph.initializer if bytes_of(tensor) > LARGE_BYTES}
    for node in graph.node:
        if node.op_type != "Shape" and not found.isdisjoint(reads(node)):
            found.update(node.output)
    return found
