"""Splits a fused QKV projection into three products, so that queries can be computed for fewer tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.graph.editing import GraphEdit, NodeBuilder
from crossrank.export.graph.shapes import BATCH, SEQUENCE, probe_shapes
from crossrank.export.graph.tools import GraphView, attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from crossrank.export.graph.shapes import Shape

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
        order: the permutation of [batch, sequence, heads, size] that the Transpose behind it applies, if there is one.
        outputs: names of the queries, keys and values after it.
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
    Reshape to [batch, sequence, 3, heads, size]; possibly a Transpose; then the three parts along the axis of size 3,
    by Split or by three Slices, and Squeeze of that axis. No value changes, because a column of a product does not
    depend on the other columns.

    Args:
        model: the graph; not changed.

    Returns:
        A new graph, or `model` itself if it has no such projection.
    """
    if not any(node.op_type == "Squeeze" for node in model.graph.node):
        return model
    view, shapes = GraphView(model.graph), probe_shapes(model)
    for node in reversed(model.graph.node):
        if node.op_type == "Reshape":
            fused = _recognise(node, view, shapes)
            if fused is not None:
                return _rebuild(model, node.output[0], fused)
    return model


def _recognise(reshape: onnx.NodeProto, view: GraphView, shapes: Mapping[str, Shape]) -> _FusedQkv | None:
    shape = shapes.get(reshape.output[0], ())
    projection = _projection(view, reshape.input[0])
    if len(shape) != _QKV_RANK or projection is None:
        return None
    parts, heads, size = (dim.factor if dim is not None and dim.is_constant else 0 for dim in shape[2:])
    source, weight, bias = projection
    if parts != _PARTS or weight.shape[1] != parts * heads * size or shape[:2] != (BATCH, SEQUENCE):
        return None
    transpose = _only_reader(view, reshape.output[0], "Transpose")
    perm = (
        list(range(_QKV_RANK)) if transpose is None else [int(axis) for axis in attributes(transpose).get("perm", [])]
    )
    if len(perm) != _QKV_RANK:
        return None
    outputs = _three_parts(view, (transpose or reshape).output[0], perm.index(_QKV_AXIS))
    if outputs is None:
        return None
    order = [axis - (axis > _QKV_AXIS) for axis in perm if axis != _QKV_AXIS]
    return _FusedQkv(source, weight, bias, heads, size, order, outputs)


def _three_parts(view: GraphView, name: str, axis: int) -> list[str] | None:
    """Names of the tensors that hold index 0, 1 and 2 of an axis of size 3, without that axis."""
    readers = view.consumers.get(name, [])
    if len(readers) == 1 and readers[0].op_type == "Split" and len(readers[0].output) == _PARTS:
        splits = int(attributes(readers[0]).get("axis", 0)) % _QKV_RANK == axis
        taken = list(readers[0].output) if splits else []
    else:
        by_start = {_slice_of_one(view, node, axis): node.output[0] for node in readers}
        taken = [by_start[start] for start in range(_PARTS)] if set(by_start) == set(range(_PARTS)) else []
    squeezes = [_only_reader(view, part, "Squeeze") for part in taken]
    outputs = [squeeze.output[0] for squeeze in squeezes if squeeze is not None]
    return outputs if len(outputs) == _PARTS else None


def _slice_of_one(view: GraphView, node: onnx.NodeProto, axis: int) -> int | None:
    """The index that a Slice takes of an axis; None if the node is something else."""
    if node.op_type != "Slice":
        return None
    starts, ends, axes = (view.constant(name) for name in [*node.input, "", ""][1:4])
    if starts is None or ends is None or axes is None or axes.size != 1 or int(axes.item()) % _QKV_RANK != axis:
        return None
    start, end = int(starts.item()), int(ends.item())
    return start if end == start + 1 else None


def _rebuild(model: onnx.ModelProto, reshaped: str, fused: _FusedQkv) -> onnx.ModelProto:
    """Put three projections in the place of the Reshape whose output is `reshaped`."""
    edit, build = GraphEdit(model), NodeBuilder()
    width = fused.heads * fused.size
    shape = build.constant(f"{reshaped}/shape", [0, 0, fused.heads, fused.size])
    for part, output in enumerate(fused.outputs):
        columns = slice(part * width, (part + 1) * width)
        name = f"{output}/projection"
        weight = build.tensor(f"{name}/weight", fused.weight[:, columns])
        build.add("MatMul", [fused.source, weight], name)
        if fused.bias is not None:
            name = build.add("Add", [name, build.tensor(f"{name}/bias", fused.bias[columns])], f"{name}/sum")
        heads = build.add("Reshape", [name, shape], f"{output}/heads")
        build.add("Transpose", [heads], output, perm=fused.order)
        edit.instead(output, ())
    edit.after(reshaped, build.nodes)
    edit.store(build)
    return edit.finish()


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
