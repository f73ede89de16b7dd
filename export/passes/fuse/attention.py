"""Fuses self-attention by what it computes, before onnxruntime's optimizer looks for the patterns it knows.

Those patterns are the node sequences of particular exporters and versions of transformers: of the same BERT exported by
`torch.onnx.export(dynamo=True)` onnxruntime 1.32 recognises no attention at all. Here heads are recognised by their
shapes and axes, and masks by their values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from crossrank.export.graph.editing import MICROSOFT, GraphEdit, NodeBuilder
from crossrank.export.graph.projections import ProjectionChain
from crossrank.export.graph.shapes import BATCH, SEQUENCE, probe_shapes
from crossrank.export.graph.tools import GraphView, attributes, heavy_tensors
from crossrank.export.passes.fuse.padding_masks import PaddingMasks

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from crossrank.export.graph.shapes import Shape

_MASK = "attention_mask"
_LENGTHS = "crossrank/lengths"
_RANK = 4
_QUERY_ORDER = [0, 2, 1, 3]  # of [batch, sequence, heads, size]
_KEY_ORDER = [0, 2, 3, 1]
_SCALE_TOLERANCE = 1e-6

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Attention:
    """Self-attention in plain operators.

    Attributes:
        output: name of the context, [batch, sequence, heads * size].
        source: name of the hidden states, [batch, sequence, hidden].
        weight: of queries, keys and values side by side.
        bias: of the same.
        heads: number of heads.
        scale: what scores are multiplied by.
        masked: what is added to the score of padding.
    """

    output: str
    source: str
    weight: _Array
    bias: _Array
    heads: int
    scale: float
    masked: float


class _UnlikeError(Exception):
    """The operators around a softmax are no self-attention that can be fused."""


def fuse_attention(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace self-attention over right-padded pairs by onnxruntime's `Attention`.

    Left alone is what is anything else: rotated or relative positions, windows, one query for all keys.

    Args:
        model: graph in standard operators whose inputs are integer tensors [batch, sequence]; not changed.

    Returns:
        A new graph, or `model` itself if nothing was recognised.
    """
    if _MASK not in {value.name for value in model.graph.input}:
        return model
    finder = _Finder(model)
    found: dict[str, _Attention] = {}
    for node in model.graph.node:
        if node.op_type == "Softmax":
            try:
                attention = finder.recognise(node)
            except _UnlikeError:
                continue
            found[attention.output] = attention
    return _rewrite(model, found) if found else model


class _Finder:
    """Recognises the attention around each softmax of one graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.view = GraphView(model.graph)
        self.shapes: Mapping[str, Shape] = probe_shapes(model)
        self.heavy = heavy_tensors(model.graph)
        self.masks = PaddingMasks(model, self.shapes)

    def recognise(self, softmax: onnx.NodeProto) -> _Attention:
        """The attention that a softmax is part of."""
        if attributes(softmax).get("axis", -1) not in (-1, _RANK - 1) or len(self._shape(softmax.output[0])) != _RANK:
            raise _UnlikeError
        context = self._only_reader(softmax.output[0], "MatMul")
        if context.input[0] != softmax.output[0]:
            raise _UnlikeError
        by_token = self._only_reader(context.output[0], "Transpose")
        merged = self._only_reader(by_token.output[0], "Reshape")
        scores, masked = self._masked(softmax.input[0])
        product, factor = self._scaled(scores)
        query, key = self._heads(product.input[0], _QUERY_ORDER), self._heads(product.input[1], _KEY_ORDER)
        value = self._heads(context.input[1], _QUERY_ORDER)
        factor *= self._factor(query.chain) * self._factor(key.chain)
        parts = (query, key, value)
        if len({part.source for part in parts}) > 1 or len({part.chain.split for part in parts}) > 1:
            raise _UnlikeError
        heads, size = query.chain.split or (0, 0)
        width = self._shape(merged.output[0])[-1]
        in_order = attributes(by_token).get("perm") == _QUERY_ORDER and self._shape(merged.output[0])[:2] == (
            BATCH,
            SEQUENCE,
        )
        if value.chain.scales or not in_order or width is None or width.factor != heads * size:
            raise _UnlikeError
        weight = np.concatenate([part.weight for part in parts], axis=1)
        bias = np.concatenate([part.bias for part in parts])
        return _Attention(merged.output[0], query.source, weight, bias, heads, factor, masked)

    def _masked(self, name: str) -> tuple[str, float]:
        """The scores before a mask, and what the mask makes of the score of padding."""
        node = self._producer(name)
        if node.op_type == "Add":
            scores, mask = self._of_two(node.input[0], node.input[1])
            masked = self.masks.added_to_padding(mask)
        elif node.op_type == "Where":
            condition = node.input[0]
            scores, filled = self._of_two(node.input[1], node.input[2])
            if condition in self.heavy:
                raise _UnlikeError
            marks, value = self.masks.marks_padding(condition), self.view.constant(filled)
            right = marks is not None and (scores == node.input[2]) == marks
            masked = float(value.item()) if right and value is not None and value.size == 1 else None
            masked = masked if masked is not None and masked < 0 else None
        else:
            raise _UnlikeError
        if masked is None:
            raise _UnlikeError
        return scores, masked

    def _of_two(self, first: str, second: str) -> tuple[str, str]:
        """Of two tensors the one that depends on weights, and the other."""
        if (first in self.heavy) == (second in self.heavy):
            raise _UnlikeError
        return (first, second) if first in self.heavy else (second, first)

    def _scaled(self, name: str) -> tuple[onnx.NodeProto, float]:
        """The product that makes scores, and what they are multiplied by."""
        factor = 1.0
        while True:
            node = self._producer(name)
            if node.op_type == "MatMul":
                return node, factor
            if node.op_type not in ("Mul", "Div"):
                raise _UnlikeError
            for index in (0, 1) if node.op_type == "Mul" else (1,):
                value = self.view.constant(node.input[index])
                if value is not None and value.size == 1:
                    factor = factor * value.item() if node.op_type == "Mul" else factor / value.item()
                    name = node.input[1 - index]
                    break
            else:
                raise _UnlikeError

    def _heads(self, name: str, order: list[int]) -> _Heads:
        chain = ProjectionChain(self.view, self.shapes)
        source = chain.walk_up(name)
        if chain.weight is None or chain.merged or chain.order != order or chain.weight.dtype != np.float32:
            raise _UnlikeError
        if self._shape(source)[:2] != (BATCH, SEQUENCE):
            raise _UnlikeError
        bias = np.zeros(chain.weight.shape[1], np.float32) if chain.bias is None else chain.bias
        return _Heads(chain, source, chain.weight, bias)

    def _factor(self, chain: ProjectionChain) -> float:
        factor = 1.0
        for scale in chain.scales:
            value = self.view.constant(scale[1:])
            if value is None:
                raise _UnlikeError
            factor = factor / value.item() if scale[0] == "/" else factor * value.item()
        return factor

    def _shape(self, name: str) -> Shape:
        return self.shapes.get(name, ())

    def _producer(self, name: str) -> onnx.NodeProto:
        node = self.view.producers.get(name)
        if node is None or (name in self.view.outputs):
            raise _UnlikeError
        return node

    def _only_reader(self, name: str, op_type: str) -> onnx.NodeProto:
        readers = self.view.consumers.get(name, [])
        if len(readers) != 1 or readers[0].op_type != op_type or name in self.view.outputs:
            raise _UnlikeError
        return readers[0]


@dataclass(frozen=True)
class _Heads:
    chain: ProjectionChain
    source: str
    weight: _Array
    bias: _Array


def _rewrite(model: onnx.ModelProto, found: Mapping[str, _Attention]) -> onnx.ModelProto:
    edit, build = GraphEdit(model), NodeBuilder()
    small = build.add("Cast", [_MASK], f"{_LENGTHS}/int32", to=TensorProto.INT32)
    axis = build.tensor(f"{_LENGTHS}/axis", [1], np.int64)
    build.add("ReduceSum", [small, axis], _LENGTHS, keepdims=0)
    edit.first(build.nodes)
    for output, attention in found.items():
        build.nodes = []
        weight = build.tensor(f"{output}/qkv_weight", attention.weight)
        bias = build.tensor(f"{output}/qkv_bias", attention.bias)
        usual = (attention.weight.shape[1] // (3 * attention.heads)) ** -0.5
        scale = {} if abs(attention.scale / usual - 1) < _SCALE_TOLERANCE else {"scale": attention.scale}
        build.add(
            "Attention",
            [attention.source, weight, bias, _LENGTHS],
            output,
            name=f"{output}/attention",
            domain=MICROSOFT,
            num_heads=attention.heads,
            mask_filter_value=attention.masked,
            **scale,
        )
        edit.instead(output, build.nodes)
    edit.store(build)
    return edit.finish()
