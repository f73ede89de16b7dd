"""Drops additions of zero, such as those of a mask of ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.export.graph.shapes import probe_shapes, probe_zeros
from crossrank.export.graph.tools import LARGE_BYTES, GraphView, bytes_of, reads, remove_dead, replace

if TYPE_CHECKING:
    import onnx


def drop_zero_terms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove every `Add` with a term that is zero for every input, batch size and length.

    Args:
        model: a graph whose inputs are integer tensors [batch, sequence]; changed in place.

    Returns:
        The same model.
    """
    view = GraphView(model.graph)
    value_dependent = _value_dependent(model.graph)
    terms_of_adds = {name for node in model.graph.node if node.op_type == "Add" for name in node.input}
    candidates = terms_of_adds & view.producers.keys() - value_dependent
    if not candidates:
        return model
    zeros, shapes = probe_zeros(model, sorted(candidates)), probe_shapes(model)
    replacements: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        terms = [name for name in node.input if node.op_type != "Add" or name not in zeros]
        output = node.output[0]
        removable = node.op_type == "Add" and len(terms) == 1 and output not in view.outputs
        if removable and output in shapes and shapes.get(terms[0]) == shapes[output]:
            replacements[output] = replacements.get(terms[0], terms[0])
        else:
            nodes.append(node)
    for node in nodes:
        if not replacements.keys().isdisjoint(node.input):
            replace(node.input, [replacements.get(name, name) for name in node.input])
    replace(model.graph.node, nodes)
    remove_dead(model.graph)
    return model


def _value_dependent(graph: onnx.GraphProto) -> set[str]:
    """Tensors that depend on the values of inputs or weights, and not only on shapes."""
    dependent = {value.name for value in graph.input}
    dependent |= {tensor.name for tensor in graph.initializer if bytes_of(tensor) > LARGE_BYTES}
    for node in graph.node:
        if node.op_type != "Shape" and not dependent.isdisjoint(reads(node)):
            dependent.update(node.output)
    return dependent
