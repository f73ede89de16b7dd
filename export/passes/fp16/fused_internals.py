"""Computes the intermediate values of fused operators, which CUDA kernels hold in float16.

A fused operator is a single node, so its intermediate values are not tensors of the graph. This module adds standard
operators that compute the same values, so that their ranges can be measured: the sums and mean squares inside norms,
the projections and scores inside attention, the biased inputs of activations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.graph.editing import NodeBuilder
from crossrank.export.graph.tools import attributes, constant_node, node_names, opset_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

_CONTRIB = "com.microsoft"
# Their intermediate values are no larger than their inputs and outputs.
_NO_LARGE_INTERNALS = frozenset(("FusedMatMul", "Gelu", "QuickGelu", "RotaryEmbedding", "TransposeMatMul"))
_AXES_ARE_AN_INPUT = 18


def add_internals(model: onnx.ModelProto) -> tuple[dict[str, str], list[str]]:
    """Add nodes that compute the intermediate values of fused operators. Changes the graph in place.

    Args:
        model: a float32 graph with or without fused operators.

    Returns:
        Each added tensor to measure, with the name of the fused node it belongs to; and the fused operators (as
        "operator name") whose intermediate values are not known.
    """
    internals = _Internals(model)
    internals.add()
    return internals.measured, internals.unknown


class _Internals:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.measured: dict[str, str] = {}
        self.unknown: list[str] = []
        self._graph = model.graph
        self._axes_are_an_input = opset_of(model) >= _AXES_ARE_AN_INPUT
        self._sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
        self._build = NodeBuilder()
        self._owner = ""

    def add(self) -> None:
        rules: dict[str, Callable[[onnx.NodeProto], bool]] = {
            "Attention": self._attention,
            "BiasGelu": self._bias,
            "EmbedLayerNormalization": self._embeddings,
            "FastGelu": self._bias,
            "SkipLayerNormalization": self._skip,
        }
        for name, node in zip(node_names(self._graph), self._graph.node, strict=True):
            if node.domain != _CONTRIB or node.op_type in _NO_LARGE_INTERNALS:
                continue
            self._owner = name
            add_rule = rules.get(node.op_type)
            if add_rule is None or not add_rule(node):
                self.unknown.append(f"{node.op_type} {name}")
        self._graph.node.extend(self._build.nodes)

    def _bias(self, node: onnx.NodeProto) -> bool:
        """An activation's input after its bias is added."""
        if len(node.input) > 1 and node.input[1]:
            self._measure(self._make("Add", node.input[0], node.input[1]))
        return True

    def _skip(self, node: onnx.NodeProto) -> bool:
        """The sum of input, skip and bias, and its norm."""
        total = self._make("Add", node.input[0], node.input[1])
        if len(node.input) > 4 and node.input[4]:  # noqa: PLR2004  input, skip, gamma, beta, bias
            total = self._make("Add", total, node.input[4])
        self._norm(total)
        return True

    def _embeddings(self, node: onnx.NodeProto) -> bool:
        """The sum of the embeddings, which is an optional output of the operator, and its norm."""
        node.output.extend([""] * (3 - len(node.output)))
        node.output[2] = node.output[2] or f"{self._owner}/inside/sum"
        self._norm(node.output[2])
        return True

    def _norm(self, total: str) -> None:
        """The input of a norm, and its mean square.

        The kernel of SkipLayerNormalization adds the squares in float16, unless onnxruntime's strict mode is on, and
        they overflow first: 65504 is the mean square of numbers around 256.
        """
        self._measure(total)
        square = self._make("Mul", total, total)
        if self._axes_are_an_input:
            self._measure(self._make("ReduceMean", square, self._constant([-1]), keepdims=0))
        else:
            self._measure(self._make("ReduceMean", square, axes=[-1], keepdims=0))

    def _attention(self, node: onnx.NodeProto) -> bool:
        """Projections before and after their bias is added, and the scaled products of queries and keys."""
        values = attributes(node)
        weight = self._sizes.get(node.input[1], ())
        heads = int(values["num_heads"])
        plain = len(weight) == 2 and weight[1] % (3 * heads) == 0 and len(set(values.get("qkv_hidden_sizes", ()))) <= 1  # noqa: PLR2004
        if not plain or values.get("do_rotary") or any(node.input[4:]):
            return False
        size = weight[1] // (3 * heads)
        projected = self._make("MatMul", node.input[0], node.input[1])
        self._measure(projected)
        if len(node.input) > 2 and node.input[2]:  # noqa: PLR2004  input, weights, bias
            projected = self._make("Add", projected, node.input[2])
            self._measure(projected)
        split = self._make("Reshape", projected, self._constant([0, 0, 3, heads, size]))
        parts = self._make("Transpose", split, perm=[2, 0, 3, 1, 4])
        queries = self._make("Gather", parts, self._constant(0), axis=0)
        keys = self._make("Gather", parts, self._constant(1), axis=0)
        scores = self._make("MatMul", queries, self._make("Transpose", keys, perm=[0, 1, 3, 2]))
        scale = values.get("scale") or size**-0.5
        self._measure(self._make("Mul", scores, self._constant(np.float32(scale))))
        return True

    def _make(self, operator: str, *inputs: str, **values: Any) -> str:
        return self._build.add(operator, inputs, self._name(), **values)

    def _constant(self, value: Any) -> str:
        name = self._name()
        self._build.nodes.append(constant_node(name, np.asarray(value)))
        return name

    def _name(self) -> str:
        return f"{self._owner}/inside/{len(self._build.nodes)}"

    def _measure(self, name: str) -> None:
        self.measured[name] = self._owner
