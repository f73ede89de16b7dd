"""Absorbs the last layer's key and value projections, once its attention has one query per pair.

For one query `q` of a head, the score of token `x` is `q . (x Wk)`, which is `(q Wk^T) . x`: project the one query
back through the key weights instead of projecting every token forward. Likewise the head's context is
`sum p_i (x_i Wv) = (sum p_i x_i) Wv`: take the weighted sum of the tokens first, then project that one vector. Both are
exact up to the order of additions. Per token, `2 * hidden**2` multiply-accumulates become `2 * heads * hidden`.

The keys' bias adds the same number to all scores of a head, which does not change their softmax, so it is dropped. The
values' bias is added to the context, because the weights of a softmax sum to one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.graph.editing import GraphEdit, NodeBuilder
from crossrank.export.graph.projections import ProjectionChain
from crossrank.export.graph.shapes import ONE, SEQUENCE, Shape, probe_shapes
from crossrank.export.graph.tools import GraphView

if TYPE_CHECKING:
    import onnx

_Array = np.ndarray[Any, Any]

_KEY_ORDER = (0, 2, 3, 1)  # of [batch, sequence, heads, size]: keys are transposed in the product of scores
_VALUE_ORDER = (0, 2, 1, 3)


@dataclass(frozen=True)
class _Projection:
    """The projection that makes the heads of keys or values.

    Attributes:
        source: hidden states, [batch, sequence, hidden].
        weight: [hidden, heads, size].
        bias: [heads, size], or None.
        scales: names of one-element tensors the heads are multiplied ("*name") or divided by ("/name").
        merged: whether batch and heads are one axis.
        product: the MatMul node of the projection.
    """

    source: str
    weight: _Array
    bias: _Array | None
    scales: tuple[str, ...]
    merged: bool
    product: onnx.NodeProto


def absorb_last_projections(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite the attention that has one query per pair to do without projected keys, values, or both.

    Keys stay if rotary embeddings rotate them after the projection, or if relative positions read them as well.
    Whatever else is not recognised stays too.

    Args:
        model: a pruned graph; not changed.

    Returns:
        A new graph, or `model` itself if nothing was recognised.
    """
    for order, rewrite in ((_VALUE_ORDER, _sum_tokens_first), (_KEY_ORDER, _project_queries_back)):
        view, shapes = GraphView(model.graph), probe_shapes(model)
        for node in reversed(model.graph.node):
            projection = _recognise(node, order, view, shapes)
            if projection is not None:
                model = _replaced(model, node, projection, rewrite(node, projection))
                break
    return model


def _recognise(
    node: onnx.NodeProto, order: tuple[int, ...], view: GraphView, shapes: dict[str, Shape]
) -> _Projection | None:
    """The projection that makes the right operand of a MatMul whose left operand has one row."""
    if node.op_type != "MatMul" or view.is_constant(node.input[1]):
        return None
    left, right = shapes.get(node.input[0], ()), shapes.get(node.input[1], ())
    rank = len(right)
    if rank not in (3, 4) or len(left) != rank or left[-2] != ONE or SEQUENCE not in right:
        return None
    chain = ProjectionChain(view, shapes)
    name = chain.walk_up(node.input[1])
    merged = rank == 3  # noqa: PLR2004
    if chain.weight is None or chain.split is None or chain.merged != merged or chain.order != list(order):
        return None
    heads, size = chain.split
    weight = chain.weight.reshape(-1, heads, size)
    bias = None if chain.bias is None else chain.bias.reshape(heads, size)
    return _Projection(name, weight, bias, tuple(chain.scales), merged, view.producers[chain.projected])


def _project_queries_back(node: onnx.NodeProto, keys: _Projection) -> NodeBuilder:
    """`scores = q K^T` without keys: `(q Wk^T) x^T`, [batch, heads, 1, sequence]."""
    base = node.output[0]
    _, heads, size = keys.weight.shape
    build = _Builder(base)
    query = build.make("Reshape", [node.input[0], build.vector([-1, heads, size])])
    by_head = build.make("Transpose", [query], perm=[1, 0, 2])
    weight = build.weight("key_weight", np.transpose(keys.weight, (1, 2, 0)))
    # Heads are the first axis, so that there is one product per head and not one per pair and head.
    back = _matmul_by_head(build, by_head, weight, heads)
    for scale in keys.scales:
        back = build.make("Div" if scale[0] == "/" else "Mul", [back, scale[1:]])
    columns = build.make("Transpose", [back], perm=[1, 2, 0])
    scores = build.make("MatMul", [keys.source, columns])
    rows = build.make("Transpose", [scores], perm=[0, 2, 1])
    build.add("Unsqueeze", [rows, build.vector([2])], base)
    return build


def _sum_tokens_first(node: onnx.NodeProto, values: _Projection) -> NodeBuilder:
    """`context = p V` without values: `(p x) Wv`, [batch, heads, 1, size], or with batch and heads as one axis."""
    base = node.output[0]
    _, heads, size = values.weight.shape
    build = _Builder(base)
    probabilities = node.input[0]
    if values.merged:
        probabilities = build.make("Squeeze", [probabilities, build.vector([1])])
        rows = build.make("Shape", [values.source])
        batch = build.make("Gather", [rows, build.vector([0])])
        target = build.make("Concat", [batch, build.vector([heads]), build.vector([-1])], axis=0)
        probabilities = build.make("Reshape", [probabilities, target])
    else:
        probabilities = build.make("Squeeze", [probabilities, build.vector([2])])
    # Not `probabilities x source`: onnxruntime divides that product by columns among its threads, and the blocks in
    # which a thread sums over tokens depend on how many columns it has. A product with more rows than columns is
    # divided by rows, which changes no sum.
    tokens = build.make("Transpose", [values.source], perm=[0, 2, 1])
    weights = build.make("Transpose", [probabilities], perm=[0, 2, 1])
    mixed = build.make("MatMul", [tokens, weights])
    by_head = build.make("Transpose", [mixed], perm=[2, 0, 1])
    weight = build.weight("value_weight", np.transpose(values.weight, (1, 0, 2)))
    context = _matmul_by_head(build, by_head, weight, heads)
    if values.bias is not None:
        bias = build.weight("value_bias", values.bias[:, np.newaxis, :])
        context = build.make("Add", [context, bias])
    for scale in values.scales:
        context = build.make("Div" if scale[0] == "/" else "Mul", [context, scale[1:]])
    by_pair = build.make("Transpose", [context], perm=[1, 0, 2])
    shape = [-1, 1, size] if values.merged else [-1, heads, 1, size]
    build.add("Reshape", [by_pair, build.vector(shape)], base)
    return build


def _matmul_by_head(build: _Builder, rows: str, weight: str, heads: int) -> str:
    """`[heads, batch, k] x [heads, k, n]` whose rows are bitwise the same in a batch of any size.

    onnxruntime's CPU provider multiplies a single row with another routine than several rows, and the two round
    differently. So each row is passed twice and one of the results is used.
    """
    twice = build.make("Concat", [rows, rows], axis=1)
    product = build.make("MatMul", [twice, weight])
    with_copies = build.make("Reshape", [product, build.vector([heads, 2, -1, build.tensors[weight].shape[-1]])])
    return build.make("Gather", [with_copies, build.scalar(0)], axis=1)


class _Builder(NodeBuilder):
    """Names new nodes and constants after one tensor, so that the same graph gives the same names."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self._base = base

    def make(self, op_type: str, inputs: list[str], **attributes: Any) -> str:
        return self.add(op_type, inputs, f"{self._base}/{op_type}_{len(self.nodes)}", **attributes)

    def vector(self, values: list[int]) -> str:
        return self.constant(f"{self._base}/vector_{len(self.nodes)}", values)

    def scalar(self, value: int) -> str:
        return self.constant(f"{self._base}/scalar_{len(self.nodes)}", value)

    def weight(self, name: str, value: _Array) -> str:
        return self.tensor(f"{self._base}/{name}", value)


def _replaced(
    model: onnx.ModelProto, node: onnx.NodeProto, projection: _Projection, built: NodeBuilder
) -> onnx.ModelProto:
    """The graph with a node replaced, or `model` itself if something else still needs the projection."""
    edit = GraphEdit(model)
    edit.instead(node.output[0], built.nodes)
    edit.store(built)
    new = edit.finish()
    still_needed = any(projection.product.output[0] in other.output for other in new.graph.node)
    return model if still_needed else new
