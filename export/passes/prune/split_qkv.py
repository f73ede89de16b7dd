"""Splits a fused QKV projection into three products, so that queries can be computed for fewer tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from crossrank.export.graph.tools import GraphView, attributes, constant_node, remove_dead, replace

_PARTS = 3
_QKV_AXIS = 2  # of [batch, sequence, 3, heads, size]
_QKV_RANK = 5

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _FusedQkv:
    """A fused QKV projection and the nodes that follow it.

    Attributes:
        source: name of the tensor that is projected, [batch, sequence, hidden].
        weight: [hidden, 3 * heads * size].
        bias: [3 * heads * size], or None.
        heads: number of attention heads.
        size: size of a head.
        order: the permutation of [batch, sequence, heads, size] that the Transpose behind it applies.
        outputs: names of the queries, keys and values after that Transpose.
    """

    source: str
    weight: _Array
    bias: _Array | None
    heads: int
    size: int
    order: list[int]
    outputs: list[str]


def split_last_qkv(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace the last fused QKV projection of a graph by one product each for queries, keys and values.

    The recognised pattern is ModernBERT's: MatMul by a constant [hidden, 3 * hidden], with or without a bias;
    Reshape to [batch, sequence, 3, heads, size]; Transpose; Split into three along the axis of size 3; Squeeze
    of that axis. No value changes, because a column of a product does not depend on the other columns.

    Args:
        model: the graph; not changed.

    Returns:
        A new graph, or `model` itself if it has no such projection.
    """
    view = GraphView(model.graph)
    for split in reversed(model.graph.node):
        fused = _recognise(split, view)
        if fused is not None:
            return _rebuild(model, split.output[0], fused)
    return model


def _recognise(split: onnx.NodeProto, view: GraphView) -> _FusedQkv | None:
    if split.op_type != "Split" or len(split.output) != _PARTS:
        return None
    squeezes = [_only_reader(view, name, "Squeeze") for name in split.output]
    transpose = _producer(view, split.input[0], "Transpose")
    reshape = _producer(view, transpose.input[0], "Reshape") if transpose is not None else None
    if transpose is None or reshape is None:
        return None
    perm = [int(axis) for axis in attributes(transpose).get("perm", [])]
    projection = _projection(view, reshape.input[0])
    sizes = _last_sizes(view, reshape.input[1])
    if len(perm) != _QKV_RANK or projection is None or sizes is None:
        return None
    parts, heads, size = sizes
    source, weight, bias = projection
    splits_qkv_axis = int(attributes(split).get("axis", 0)) % _QKV_RANK == perm.index(_QKV_AXIS)
    if parts != _PARTS or weight.shape[1] != parts * heads * size or not splits_qkv_axis:
        return None
    order = [axis - (axis > _QKV_AXIS) for axis in perm if axis != _QKV_AXIS]
    outputs = [squeeze.output[0] for squeeze in squeezes if squeeze is not None]
    if len(outputs) != _PARTS:
        return None
    return _FusedQkv(source, weight, bias, heads, size, order, outputs)


def _rebuild(model: onnx.ModelProto, split_output: str, fused: _FusedQkv) -> onnx.ModelProto:
    """Replace the Split whose first output is `split_output` by three projections."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    width = fused.heads * fused.size
    shape = f"{split_output}/shape"
    tensors: dict[str, _Array] = {}
    made = [constant_node(shape, np.asarray([0, 0, fused.heads, fused.size], dtype=np.int64))]
    for part, output in enumerate(fused.outputs):
        columns = slice(part * width, (part + 1) * width)
        name = f"{output}/projection"
        tensors[f"{name}/weight"] = fused.weight[:, columns]
        made.append(helper.make_node("MatMul", [fused.source, f"{name}/weight"], [name], name=name))
        if fused.bias is not None:
            tensors[f"{name}/bias"] = fused.bias[columns]
            made.append(helper.make_node("Add", [name, f"{name}/bias"], [f"{name}/sum"], name=f"{name}/sum"))
            name = f"{name}/sum"
        heads = f"{output}/heads"
        made.append(helper.make_node("Reshape", [name, shape], [heads], name=heads))
        made.append(helper.make_node("Transpose", [heads], [output], name=output, perm=fused.order))
    nodes: list[onnx.NodeProto] = []
    for node in new.graph.node:
        if node.output[0] == split_output:
            nodes += made
        elif not set(fused.outputs).intersection(node.output):
            nodes.append(node)
    replace(new.graph.node, nodes)
    new.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in tensors.items()
    )
    remove_dead(new.graph)
    return new


def _producer(view: GraphView, name: str, op_type: str) -> onnx.NodeProto | None:
    node = view.producers.get(name)
    return node if node is not None and node.op_type == op_type else None


def _only_reader(view: GraphView, name: str, op_type: str) -> onnx.NodeProto | None:
    readers = view.consumers.get(name, [])
    return readers[0] if len(readers) == 1 and readers[0].op_type == op_type else None


def _projection(view: GraphView, name: str) -> tuple[str, _Array, _Array | None] | None:
    """Input, weight and bias of the `MatMul` or `MatMul + Add` that makes a tensor."""
    bias = None
    add = _producer(view, name, "Add")
    if add is not None:
        constants = [view.constant(part) for part in add.input]
        bias = next((value for value in constants if value is not None and value.ndim == 1), None)
        name = next((part for part, value in zip(add.input, constants, strict=True) if value is None), "")
    product = _producer(view, name, "MatMul")
    weight = view.constant(product.input[1]) if product is not None else None
    if product is None or weight is None or weight.ndim != 2 or (add is not None and bias is None):  # noqa: PLR2004
        return None
    return product.input[0], weight, bias


def _last_sizes(view: GraphView, name: str) -> tuple[int, int, int] | None:
    """The last three sizes of a Reshape target of five, or None if they are not constant."""
    target = view.constant(name)
    if target is None:
        node = _producer(view, name, "Concat")
        parts = [] if node is None or len(node.input) != _QKV_RANK else node.input[2:]
        values = [view.constant(part) for part in parts]
        sizes = [int(value.item()) for value in values if value is not None and value.size == 1]
    else:
        sizes = [int(value) for value in target[2:]]
    return (sizes[0], sizes[1], sizes[2]) if len(sizes) == _PARTS else None
