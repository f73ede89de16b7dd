"""Rules for packed batches: which nodes work on packed tokens unchanged, and which have to run pair by pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crossrank.export.graph.shapes import BATCH, SEQUENCE
from crossrank.export.graph.tools import attributes
from crossrank.export.passes.prune.node_rules import ELEMENTWISE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    import onnx

    from crossrank.export.graph.shapes import Dim, Shape
    from crossrank.export.graph.tools import GraphView

TOKENS_RANK = 3
"""Axes of hidden states: pairs, tokens, channels."""

_LAST = (-1, TOKENS_RANK - 1)
_REDUCTIONS = frozenset(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"))
_PRODUCTS = frozenset(("MatMul", "MatMulInteger", "MatMulIntegerToFloat"))
_BY_PAIR = ELEMENTWISE | {"MatMul", "Transpose", "Unsqueeze", "Squeeze", "Softmax"}


@dataclass(frozen=True)
class PackingRules:
    """Rules for the nodes of one graph.

    Attributes:
        view: the graph.
        shapes: shapes of its tensors, from `probe_shapes`.
        computed: names of the tensors that depend on the graph's inputs; all others are constant.
    """

    view: GraphView
    shapes: Mapping[str, Shape]
    computed: AbstractSet[str]

    def shape(self, name: str) -> Shape:
        """A tensor's shape; empty if it is not known."""
        return self.shapes.get(name, ())

    def is_hidden(self, name: str) -> bool:
        """Whether a tensor holds a vector for each token: [batch, sequence, channels]."""
        shape = self.shape(name)
        return len(shape) == TOKENS_RANK and shape[:2] == (BATCH, SEQUENCE) and _is_constant(shape[2])

    def is_attention(self, node: onnx.NodeProto) -> bool:
        """Whether a node is attention that reads only queries, keys and values."""
        return node.op_type == "MultiHeadAttention" and [self.is_hidden(name) for name in node.input] == [True] * 3

    def is_token_wise(self, node: onnx.NodeProto) -> bool:
        """Whether each token's result depends on that token only, and not on its position."""
        if len(node.output) != 1 or not self.is_hidden(node.output[0]):
            return False
        constants = [name for name in node.input if name and name not in self.computed]
        if node.op_type in _PRODUCTS:
            return node.input[0] in self.computed and len(constants) == sum(map(bool, node.input)) - 1
        # A constant with an axis of tokens would make the result depend on the position.
        return all(len(self.shape(name)) <= 1 for name in constants) and self._combines_channels_only(node, constants)

    def takes_first_token(self, node: onnx.NodeProto) -> bool:
        """Whether a node picks token 0 of every pair: `Gather` or `Slice` along the sequence."""
        constants = [self.view.constant(name) for name in node.input[1:]]
        values = [np.ravel(value).tolist() for value in constants if value is not None]
        if len(values) < len(constants):
            return False
        if node.op_type == "Gather":
            return attributes(node).get("axis", 0) == 1 and values == [[0]]
        return node.op_type == "Slice" and values in ([[0], [1], [1]], [[0], [1], [1], [1]])

    def works_by_pair(self, node: onnx.NodeProto) -> bool:
        """Whether a node gives for one unpadded pair what it gives for that pair in a batch."""
        if node.op_type not in _BY_PAIR or len(node.output) != 1:
            return False
        shapes = [self.shape(name) for name in (*node.input, *node.output) if name in self.computed]
        if any(not shape or shape[0] != BATCH or not all(map(_is_plain, shape[1:])) for shape in shapes):
            return False
        values = attributes(node)
        if node.op_type == "Transpose":
            return list(values.get("perm", []))[:1] == [0]
        if node.op_type == "Softmax":
            return int(values.get("axis", -1)) % len(self.shape(node.input[0])) > 0
        if node.op_type in ("Squeeze", "Unsqueeze"):
            return self._axes(node, lambda axis: axis > 0)
        return True

    def _combines_channels_only(self, node: onnx.NodeProto, constants: list[str]) -> bool:
        if node.op_type == "LayerNormalization":
            return attributes(node).get("axis", -1) in _LAST
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return all(self.shape(name) == () for name in constants)
        if node.op_type in _REDUCTIONS:
            return self._axes(node, _LAST.__contains__)
        return node.op_type in ELEMENTWISE

    def _axes(self, node: onnx.NodeProto, allowed: Callable[[int], bool]) -> bool:
        """Whether a node's axes (an attribute or its second input) are known and all allowed."""
        axes = attributes(node).get("axes")
        if axes is None and len(node.input) > 1:
            axes = self.view.constant(node.input[1])
        return axes is not None and all(allowed(int(axis)) for axis in np.ravel(axes))


def _is_constant(dim: Dim | None) -> bool:
    return dim is not None and dim.is_constant


def _is_plain(dim: Dim | None) -> bool:
    """Whether a dimension is the sequence length or a constant."""
    return dim is not None and (dim == SEQUENCE or dim.is_constant)
