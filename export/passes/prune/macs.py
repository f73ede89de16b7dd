"""Counts the multiply-accumulates of a graph's matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.export.graph.shapes import Shape, probe_shapes
from crossrank.export.graph.tools import attributes

if TYPE_CHECKING:
    import onnx


def multiply_accumulates(model: onnx.ModelProto, *, sequence: int, batch: int = 1) -> int:
    """Multiply-accumulates of all MatMul and Gemm nodes outside subgraphs.

    Args:
        model: a graph in standard operators (products inside fused attention are not counted).
        sequence: tokens of a pair.
        batch: pairs of a batch.
    """
    shapes = probe_shapes(model)
    total = 0
    for node in model.graph.node:
        if node.op_type not in ("Gemm", "MatMul"):
            continue
        output = _sizes(shapes.get(node.output[0], ()), batch, sequence)
        left = _sizes(shapes.get(node.input[0], ()), batch, sequence)
        inner = left[0] if attributes(node).get("transA", 0) else left[-1]
        count = inner
        for size in output:
            count *= size
        total += count
    return total


def _sizes(shape: Shape, batch: int, sequence: int) -> list[int]:
    return [1 if dim is None else dim.at(batch, sequence) for dim in shape] or [0]
