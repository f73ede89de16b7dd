"""Recognises how attention heads are made of hidden states, whatever order an exporter wrote the steps in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.graph.shapes import BATCH, ONE, SEQUENCE
from crossrank.export.graph.tools import attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from crossrank.export.graph.shapes import Shape
    from crossrank.export.graph.tools import GraphView

_Array = np.ndarray[Any, Any]


class ProjectionChain:
    """Walks from heads of queries, keys or values up to the hidden states they are projected from.

    Attributes:
        order: where each axis of the heads comes from, in [batch, sequence, heads, size].
        scales: names of one-element tensors the heads are multiplied ("*name") or divided by ("/name").
        split: heads and size of one, once the walk came to the reshape that makes them.
        bias: [heads * size], or None.
        weight: [hidden, heads * size], once the walk came to the product; None before.
        projected: name of the product's output.
        merged: whether batch and heads are one axis.
    """

    def __init__(self, view: GraphView, shapes: Mapping[str, Shape]) -> None:
        self.view = view
        self.shapes = shapes
        self.order = [0, 1, 2, 3]
        self.scales: list[str] = []
        self.split: tuple[int, int] | None = None
        self.bias: _Array | None = None
        self.weight: _Array | None = None
        self.projected = ""
        self.merged = False

    def walk_up(self, name: str) -> str:
        """Follow producers upwards; returns the name of the tensor that is projected, or of the last tensor reached."""
        while self.weight is None:
            node = self.view.producers.get(name)
            steps = {
                "Add": self._add,
                "Div": self._scale,
                "Identity": lambda node: node.input[0],
                "MatMul": self._matmul,
                "Mul": self._scale,
                "Reshape": self._reshape,
                "Transpose": self._transpose,
            }
            if node is None or node.op_type not in steps:
                return name
            above = steps[node.op_type](node)
            if above is None:
                return name
            name = above
        return name

    def _transpose(self, node: onnx.NodeProto) -> str | None:
        perm = [int(axis) for axis in attributes(node).get("perm", [])]
        if self.split is not None or not perm:
            return None
        if len(perm) == 3 and perm[0] == 0:  # noqa: PLR2004  batch and heads are one axis, which stays first
            perm = [0, 1, *(axis + 1 for axis in perm[1:])]
        if len(perm) != len(self.order):
            return None
        self.order = [perm[axis] for axis in self.order]
        return str(node.input[0])

    def _reshape(self, node: onnx.NodeProto) -> str | None:
        source, target = self.shapes.get(node.input[0], ()), self.shapes.get(node.output[0], ())
        if self.split is None and len(source) == 4 and len(target) == 3:  # noqa: PLR2004
            if self.merged or source[2:] != target[1:]:
                return None
            self.merged = True
            return str(node.input[0])
        if self.split is None and len(source) == 3 and len(target) == 4:  # noqa: PLR2004
            heads, size = target[2], target[3]
            if source[:2] != (BATCH, SEQUENCE) or target[:2] != source[:2] or heads is None or size is None:
                return None
            self.split = (heads.factor, size.factor)
            return str(node.input[0])
        return None

    def _scale(self, node: onnx.NodeProto) -> str | None:
        for index in (0, 1) if node.op_type == "Mul" else (1,):
            shape = self.shapes.get(node.input[index])
            if shape in ((), (ONE,)):
                self.scales.append(("/" if node.op_type == "Div" else "*") + node.input[index])
                return str(node.input[1 - index])
        return None

    def _add(self, node: onnx.NodeProto) -> str | None:
        for index in (0, 1):
            value = self.view.constant(node.input[index])
            if value is not None and value.ndim == 1 and self.split is not None and self.bias is None:
                self.bias = value
                return str(node.input[1 - index])
        return None

    def _matmul(self, node: onnx.NodeProto) -> str | None:
        weight = self.view.constant(node.input[1])
        if self.split is None or weight is None or weight.ndim != 2:  # noqa: PLR2004
            return None
        self.weight, self.projected = weight, node.output[0]
        return str(node.input[0])
