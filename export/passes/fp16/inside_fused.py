"""Shows what fused operators hold in float16 between their inputs and outputs when CUDA runs them.

A fused operator is one node of a graph, and what it makes on the way is no tensor of the graph. The same values are
made beside it from standard operators here, so that their ranges can be measured: the sums and the mean squares that
norms are made of, the projections and scores of attention, activations' inputs with their bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from crossrank.export.graph.tools import attributes, node_names, opset_of

if TYPE_CHECKING:
    from collections.abc import Callable

_CONTRIB = "com.microsoft"
# What these make on the way is no larger than what they read or give.
_NOTHING_INSIDE = frozenset(("FusedMatMul", "Gelu", "QuickGelu", "RotaryEmbedding", "TransposeMatMul"))
_AXES_ARE_AN_INPUT = 18


def add_insides(model: onnx.ModelProto) -> tuple[dict[str, str], list[str]]:
    """Add nodes that make what fused operators hold inside. Changes the graph in place.

    Args:
        model: a float32 graph with fused operators or without.

    Returns:
        Each tensor that was added for looking at, with the name of the node it is inside of; and the fused operators
        (as "operator name") of which nothing is known.
    """
    insides = _Insides(model)
    insides.add()
    return insides.shown, insides.unseen


class _Insides:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.shown: dict[str, str] = {}
        self.unseen: list[str] = []
        self._graph = model.graph
        self._axes_are_an_input = opset_of(model) >= _AXES_ARE_AN_INPUT
        self._sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._owner = ""

    def add(self) -> None:
        """Go through all nodes."""
        known: dict[str, Callable[[onnx.NodeProto], bool]] = {
            "Attention": self._attention,
            "BiasGelu": self._bias,
            "EmbedLayerNormalization": self._embeddings,
            "FastGelu": self._bias,
            "SkipLayerNormalization": self._skip,
        }
        for name, node in zip(node_names(self._graph), self._graph.node, strict=True):
            if node.domain != _CONTRIB or node.op_type in _NOTHING_INSIDE:
                continue
            self._owner = name
            tell = known.get(node.op_type)
            if tell is None or not tell(node):
                self.unseen.append(f"{node.op_type} {name}")
        self._graph.node.extend(self._nodes)

    def _bias(self, node: onnx.NodeProto) -> bool:
        """An activation's input with its bias."""
        if len(node.input) > 1 and node.input[1]:
            self._show(self._make("Add", node.input[0], node.input[1]))
        return True

    def _skip(self, node: onnx.NodeProto) -> bool:
        """Input, skip and bias together."""
        total = self._make("Add", node.input[0], node.input[1])
        if len(node.input) > 4 and node.input[4]:  # noqa: PLR2004  input, skip, gamma, beta, bias
            total = self._make("Add", total, node.input[4])
        self._norm(total)
        return True

    def _embeddings(self, node: onnx.NodeProto) -> bool:
        """The sum of the embeddings, which the operator gives when asked."""
        node.output.extend([""] * (3 - len(node.output)))
        node.output[2] = node.output[2] or f"{self._owner}/inside/sum"
        self._norm(node.output[2])
        return True

    def _norm(self, total: str) -> None:
        """What a norm reads, and its mean square.

        The float16 kernel of SkipLayerNormalization sums that up in float16, unless onnxruntime is told to be strict.
        It is the first to overflow: 65504 is the mean square of numbers around 256.
        """
        self._show(total)
        square = self._make("Mul", total, total)
        if self._axes_are_an_input:
            self._show(self._make("ReduceMean", square, self._constant([-1]), keepdims=0))
        else:
            self._show(self._make("ReduceMean", square, axes=[-1], keepdims=0))

    def _attention(self, node: onnx.NodeProto) -> bool:
        """Projections without and with their bias, and the scaled products of queries and keys."""
        values = attributes(node)
        weight = self._sizes.get(node.input[1], ())
        heads = int(values["num_heads"])
        plain = len(weight) == 2 and weight[1] % (3 * heads) == 0 and len(set(values.get("qkv_hidden_sizes", ()))) <= 1  # noqa: PLR2004
        if not plain or values.get("do_rotary") or any(node.input[4:]):
            return False
        size = weight[1] // (3 * heads)
        projected = self._make("MatMul", node.input[0], node.input[1])
        self._show(projected)
        if len(node.input) > 2 and node.input[2]:  # noqa: PLR2004  input, weights, bias
            projected = self._make("Add", projected, node.input[2])
            self._show(projected)
        split = self._make("Reshape", projected, self._constant([0, 0, 3, heads, size]))
        parts = self._make("Transpose", split, perm=[2, 0, 3, 1, 4])
        queries = self._make("Gather", parts, self._constant(0), axis=0)
        keys = self._make("Gather", parts, self._constant(1), axis=0)
        scores = self._make("MatMul", queries, self._make("Transpose", keys, perm=[0, 1, 3, 2]))
        scale = values.get("scale") or size**-0.5
        self._show(self._make("Mul", scores, self._constant(np.float32(scale))))
        return True

    def _make(self, operator: str, *inputs: str, **values: Any) -> str:
        name = self._name()
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **values))
        return name

    def _constant(self, value: Any) -> str:
        name = self._name()
        tensor = numpy_helper.from_array(np.asarray(value), name)
        self._nodes.append(helper.make_node("Constant", [], [name], name=name, value=tensor))
        return name

    def _name(self) -> str:
        return f"{self._owner}/inside/{len(self._nodes)}"

    def _show(self, name: str) -> None:
        self.shown[name] = self._owner
