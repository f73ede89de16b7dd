"""Converts a graph to float16, except for nodes whose values float16 cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from crossrank.export.graph.shapes import probe_types
from crossrank.export.graph.tools import (
    GraphView,
    attributes,
    bytes_of,
    heavy_tensors,
    node_names,
    reads,
    replace,
)
from crossrank.export.passes.base import PassResult
from crossrank.export.passes.fp16.convert import convert
from crossrank.models.manifest import PassRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "fp16"

# Positions reach thousands, where float16 only has every second or fourth integer, so angles would be wrong.
_ALSO_BLOCKED = ("Cos", "Log", "Sin")
_INTEGERS = frozenset((TensorProto.INT32, TensorProto.INT64))
# Operators that accept int32 as well as int64.
_ANY_INTEGER = frozenset(("Cast", "Gather", "Shape"))
_INT32_LIMIT = 2**31


def to_fp16(model: onnx.ModelProto, *, keep_fp32: Iterable[str] = ()) -> PassResult:
    """Convert a float32 graph to float16, with float32 outputs and integer inputs.

    These nodes stay in float32: the operators that onnxruntime's converter blocks by default (among them CumSum, Range,
    Min, Max), and the arithmetic of positions, whose results are angles or indices and not activations. Inputs become
    int32 if every reader accepts that, which saves casts.

    Args:
        model: fused float32 graph; not changed.
        keep_fp32: names of further nodes to keep in float32, from `audit_for_float16`.

    Returns:
        A graph with weights of about half the size. The same input gives the same bytes.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

    named = onnx.ModelProto()
    named.CopyFrom(model)
    _name_nodes(named.graph)
    types = probe_types(named)
    blocked = {*DEFAULT_OP_BLOCK_LIST, *_ALSO_BLOCKED}
    in_fp32 = {*keep_fp32, *_position_nodes(named.graph, types)}
    in_fp32.update(node.name for node in named.graph.node if node.op_type in blocked)
    converted = convert(named, types, in_fp32)
    _narrow_inputs(converted.graph)
    before, after = _weight_bytes(model.graph), _weight_bytes(converted.graph)
    floats = sum(
        node.name in in_fp32 and any(types.get(name) == TensorProto.FLOAT for name in node.output)
        for node in named.graph.node
    )
    detail = f"weights {before} to {after} bytes; {floats} nodes kept in float32"
    return PassResult(converted, PassRecord(name=NAME, changed=True, detail=detail))


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name, because nodes to keep in float32 are listed by name."""
    for node, name in zip(graph.node, node_names(graph), strict=True):
        node.name = name


def _position_nodes(graph: onnx.GraphProto, types: dict[str, int]) -> list[str]:
    """Nodes on floats that do not depend on weights and whose results become angles or integers."""
    heavy = heavy_tensors(graph)
    position_tensors: set[str] = set()
    names = []
    for node in reversed(graph.node):
        to_integer = node.op_type == "Cast" and attributes(node)["to"] in _INTEGERS
        angle = node.op_type in _ALSO_BLOCKED
        if heavy.intersection(node.output) or not (angle or to_integer or position_tensors.intersection(node.output)):
            continue
        if node.op_type != "Shape":
            position_tensors.update(reads(node))
        touched = (*node.input, *node.output)
        if any(types.get(name) == TensorProto.FLOAT for name in touched):
            names.append(node.name)
    return names


def _narrow_inputs(graph: onnx.GraphProto) -> None:
    """Make an input int32 if the graph casts it to int32 anyway and its other readers accept int32."""
    view = GraphView(graph)
    for value in graph.input:
        readers = view.consumers.get(value.name, [])
        casts = [node for node in readers if node.op_type == "Cast" and attributes(node)["to"] == TensorProto.INT32]
        if (
            value.type.tensor_type.elem_type != TensorProto.INT64
            or not casts
            or not all(_accepts_int32(view, node, value.name) for node in readers)
        ):
            continue
        value.type.tensor_type.elem_type = TensorProto.INT32
        renamed = {node.output[0]: value.name for node in casts}
        replace(graph.node, [node for node in graph.node if node.output[0] not in renamed])
        for node in graph.node:
            replace(node.input, [renamed.get(name, name) for name in node.input])
            if node.op_type == "Equal" and value.name in node.input:
                _narrow_constant(graph, view, node, value.name)


def _narrow_constant(graph: onnx.GraphProto, view: GraphView, node: onnx.NodeProto, name: str) -> None:
    """Give a comparison of the input `name` an int32 constant of its own."""
    position = 1 if node.input[0] == name else 0
    constant = view.constant(node.input[position])
    if constant is not None:
        narrow = f"{node.output[0]}/int32"
        graph.initializer.append(numpy_helper.from_array(constant.astype(np.int32), narrow))
        node.input[position] = narrow


def _accepts_int32(view: GraphView, node: onnx.NodeProto, name: str) -> bool:
    if node.op_type == "Unsqueeze":
        return all(_accepts_int32(view, reader, node.output[0]) for reader in view.consumers[node.output[0]])
    if node.op_type == "Equal" and name in view.inputs:
        constants = [view.constant(other) for other in node.input if other != name]
        return len(constants) == 1 and constants[0] is not None and bool(np.all(np.abs(constants[0]) < _INT32_LIMIT))
    return node.op_type in _ANY_INTEGER and (node.op_type != "Gather" or node.input[0] != name)


def _weight_bytes(graph: onnx.GraphProto) -> int:
    return sum(bytes_of(tensor) for tensor in graph.initializer)
