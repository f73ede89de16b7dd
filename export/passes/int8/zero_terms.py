"""Drops additions of zero and choices that always fall on one side, such as those of a mask of ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.export.graph.shapes import probe_shapes, probe_uniform
from crossrank.export.graph.tools import LARGE_BYTES, GraphView, bytes_of, reads, remove_dead, replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

# How many of an operator's first inputs decide whether it may go.
_DECIDING = {"Add": 2, "Where": 1}


def drop_zero_terms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove every `Add` of zeros and every `Where` with a fixed choice, for every input, batch size and length.

    Args:
        model: a graph whose inputs are integer tensors [batch, sequence]; changed in place.

    Returns:
        The same model.
    """
    view = GraphView(model.graph)
    value_dependent = _value_dependent(model.graph)
    read = {name for node in model.graph.node for name in node.input[: _DECIDING.get(node.op_type, 0)]}
    candidates = read & view.producers.keys() - value_dependent
    if not candidates:
        return model
    uniform, shapes = probe_uniform(model, sorted(candidates)), probe_shapes(model)
    replacements: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        kept, output = _only_term(node, uniform), node.output[0]
        if kept is not None and output not in view.outputs and shapes.get(kept, ()) == shapes.get(output):
            replacements[output] = replacements.get(kept, kept)
        else:
            nodes.append(node)
    for node in nodes:
        if not replacements.keys().isdisjoint(node.input):
            replace(node.input, [replacements.get(name, name) for name in node.input])
    replace(model.graph.node, nodes)
    remove_dead(model.graph)
    return model


def _only_term(node: onnx.NodeProto, uniform: Mapping[str, bool]) -> str | None:
    """The one input that a node passes on unchanged; None if it does not."""
    if node.op_type == "Add":
        terms = [name for name in node.input if uniform.get(name, True)]
        return terms[0] if len(terms) == 1 else None
    if node.op_type == "Where" and node.input[0] in uniform:
        return str(node.input[1] if uniform[node.input[0]] else node.input[2])
    return None


def _value_dependent(graph: onnx.GraphProto) -> set[str]:
    """Tensors that depend on the values of inputs or weights, and not only on shapes."""
    dependent = {value.name for value in graph.input}
    dependent |= {tensor.name for tensor in graph.initializer if bytes_of(tensor) > LARGE_BYTES}
    for node in graph.node:
        if node.op_type != "Shape" and not dependent.isdisjoint(reads(node)):
            dependent.update(node.output)
    return dependent
