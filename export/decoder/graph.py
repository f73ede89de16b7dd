"""Writes the ONNX graph of a decoder that scores, from its weights.

No exporter is asked: those write attention and norms in dozens of operators a layer, with the whole vocabulary of
logits at the end. Here norms and rotary positions are onnxruntime's fused operators from the start, the last layer is
computed for the one token that the head reads, and the head has as many columns as there are labels.

Pairs are padded on the right. A token attends to those before it, so padding changes no score, and no mask is needed
but the causal one; the attention mask only says which token is the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crossrank.export.graph.editing import MICROSOFT, NodeBuilder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossrank.export.decoder.weights import DecoderWeights, Layer, Linear

OPSET = 18
BEGINNING_LENGTH = "beginning_length"
"""Tokens before the first of `input_ids`, int64 [1]; a graph that is written here has none."""
ROWS = "rows"
"""Number of pairs, int64 [1]."""

_LEAST = np.float32(np.finfo(np.float32).min)


def keys_name(layer: int) -> str:
    """The keys of a layer, rotated, [pairs, key heads, tokens, head size]."""
    return f"keys.{layer}"


def values_name(layer: int) -> str:
    """The values of a layer, [pairs, key heads, tokens, head size]."""
    return f"values.{layer}"


def write_graph(weights: DecoderWeights) -> onnx.ModelProto:
    """Write the graph.

    Args:
        weights: of the decoder.

    Returns:
        A graph with int64 inputs input_ids and attention_mask [batch, sequence] and the float32 output "logits"
        [batch, labels]. The same weights give the same bytes.
    """
    return _Decoder(weights).write()


class _Decoder:
    """The graph while it is written, node by node."""

    def __init__(self, weights: DecoderWeights) -> None:
        self._weights = weights
        self._build = NodeBuilder()
        self._initializers: dict[str, onnx.TensorProto] = {}

    def write(self) -> onnx.ModelProto:
        weights = self._weights
        self._write_positions()
        self._initializers["embeddings"] = _tensor(weights.embeddings, "embeddings")
        hidden = self._add("Gather", ["embeddings", "input_ids"], "embedded")
        if weights.embedding_scale != 1.0:
            hidden = self._add("Mul", [hidden, self._constant(np.float32(weights.embedding_scale))])
        for index in range(weights.layer_count):
            hidden = self._layer(index, weights.layer(index), hidden, last=index == weights.layer_count - 1)
        row = self._add("Squeeze", [hidden, self._constant([1])])
        normed = self._norm(row, weights.norm, "norm")
        self._matmul(normed, weights.head, "head", output="logits")
        names = ("batch_size", "sequence_length")
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, names) for name in ("input_ids", "attention_mask")
        ]
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [names[0], weights.head.shape[1]])
        # The weights go in one by one: make_graph would copy them.
        graph = helper.make_graph(self._build.nodes, "decoder", inputs, [output])
        for name in list(self._initializers):
            graph.initializer.add().CopyFrom(self._initializers.pop(name))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="crossrank")

    def _write_positions(self) -> None:
        """Which token each is, what it may attend to, and which one is read."""
        weights = self._weights
        size = self._add("Shape", ["input_ids"])
        self._add("Gather", [size, self._constant([0])], ROWS)
        length = self._add("Gather", [size, self._constant([1])])
        self._initializers[BEGINNING_LENGTH] = _tensor(np.zeros(1, np.int64), BEGINNING_LENGTH)
        self._add("Add", [length, BEGINNING_LENGTH], "all_tokens")
        one, total = self._constant(np.int64(1)), self._add("Squeeze", ["all_tokens"])
        every = self._add("Range", [self._constant(np.int64(0)), total, one], "every_position")
        self._add("Range", [self._add("Squeeze", [BEGINNING_LENGTH]), total, one], "positions")
        floats = self._add("Cast", [every], to=TensorProto.FLOAT)
        column = self._add("Unsqueeze", [floats, self._constant([1])])
        angles = self._add("Mul", [column, self._constant(weights.frequencies[np.newaxis])])
        scale = self._constant(np.float32(weights.rotary_scale))
        for name in ("Cos", "Sin"):
            self._add("Mul", [self._add(name, [angles]), scale], name.lower())
        row = self._add("Unsqueeze", ["positions", self._constant([0])])
        self._add("Expand", [row, self._add("Concat", [ROWS, length], axis=0)], "position_ids")
        allowed = self._add("LessOrEqual", [every, self._add("Unsqueeze", ["positions", self._constant([1])])])
        self._bias(allowed, "causal_bias")
        self._write_last(length, one)

    def _write_last(self, length: str, one: str) -> None:
        """The index of the token that is read, among those of `input_ids`: [pairs]."""
        skipped = self._weights.pad_token_id
        if skipped is None:
            tokens = self._add("ReduceSum", ["attention_mask", self._constant([1])], keepdims=0)
            last = self._add("Sub", [tokens, one])
        else:
            # As transformers' heads do: the last token that is not the padding token, wherever that came from.
            here = self._add("Range", [self._constant(np.int64(0)), self._add("Squeeze", [length]), one])
            text = self._add("Not", [self._add("Equal", ["input_ids", self._constant(np.int64(skipped))])])
            kept = self._add("Mul", [self._add("Cast", [text], to=TensorProto.INT64), "attention_mask"])
            last = self._add("ArgMax", [self._add("Mul", [here, kept])], axis=1, keepdims=0)
        self._add("Unsqueeze", [last, self._constant([1])], "last")
        self._add("Add", ["last", BEGINNING_LENGTH], "last_position")
        allowed = self._add("LessOrEqual", ["every_position", "last_position"])
        axes = self._constant([1, 2])
        self._bias(self._add("Unsqueeze", [allowed, axes]), "last_bias")

    def _bias(self, allowed: str, name: str) -> None:
        self._add("Where", [allowed, self._constant(np.float32(0)), self._constant(_LEAST)], name)

    def _layer(self, index: int, layer: Layer, hidden: str, *, last: bool) -> str:
        """One layer; of the last one the token that is read alone, [pairs, 1, hidden]."""
        weights, base = self._weights, f"layers.{index}"
        normed = self._norm(hidden, layer.attention_norm, f"{base}.attention_norm")
        asked, positions = normed, "position_ids"
        if last:
            hidden, asked = self._last_token(hidden), self._last_token(normed)
            positions = "last_position"
        query = self._heads(asked, layer.query, layer.query_norm, f"{base}.query", weights.heads, positions)
        key = self._heads(normed, layer.key, layer.key_norm, f"{base}.key", weights.key_heads, "position_ids")
        value = self._heads(normed, layer.value, None, f"{base}.value", weights.key_heads, None)
        order = [0, 2, 1, 3]
        keys = self._add("Transpose", [key], keys_name(index), perm=order)
        values = self._add("Transpose", [value], values_name(index), perm=order)
        attended = self._attend(query, keys, values, f"{base}.context", last=last)
        hidden = self._add("Add", [hidden, self._linear(attended, layer.output, f"{base}.output")])
        normed = self._norm(hidden, layer.feed_forward_norm, f"{base}.feed_forward_norm")
        gate = self._activated(self._linear(normed, layer.gate, f"{base}.gate"))
        product = self._add("Mul", [gate, self._linear(normed, layer.up, f"{base}.up")], f"{base}.gated")
        return self._add("Add", [hidden, self._linear(product, layer.down, f"{base}.down")], f"{base}.hidden")

    def _last_token(self, hidden: str) -> str:
        row = self._add("GatherND", [hidden, "last"], batch_dims=1)
        return self._add("Unsqueeze", [row, self._constant([1])])

    def _heads(
        self,
        hidden: str,
        projection: Linear,
        norm: NDArray[np.float32] | None,
        name: str,
        heads: int,
        positions: str | None,
    ) -> str:
        """Projected, normed and rotated, [pairs, tokens, heads, head size]."""
        shape = self._constant([0, 0, heads, self._weights.head_size])
        projected = self._linear(hidden, projection, name)
        if norm is not None:
            normed = self._norm(self._add("Reshape", [projected, shape]), norm, f"{name}_norm")
            projected = self._add("Reshape", [normed, self._constant([0, 0, -1])])
        if positions is not None:
            inputs = [projected, positions, "cos", "sin"]
            projected = self._add("RotaryEmbedding", inputs, domain=MICROSOFT, num_heads=heads, interleaved=0)
        return self._add("Reshape", [projected, shape])

    def _attend(self, query: str, keys: str, values: str, name: str, *, last: bool) -> str:
        """What attention gives, [pairs, tokens, heads * head size].

        A key head serves several heads of queries: their queries are rows of one product, so that no key is copied.
        """
        weights = self._weights
        size, key_heads, group = weights.head_size, weights.key_heads, weights.heads // weights.key_heads
        scaled = self._add("Mul", [query, self._constant(np.float32(size**-0.5))])
        by_head = self._add("Transpose", [scaled], perm=[0, 2, 1, 3])
        rows = self._add("Reshape", [by_head, self._constant([0, key_heads, -1, size])])
        scores = self._add("MatMul", [rows, self._add("Transpose", [keys], perm=[0, 1, 3, 2])])
        if last:
            weighted = self._add("Softmax", [self._add("Add", [scores, "last_bias"])], axis=-1)
        else:
            apart = self._add("Concat", [ROWS, self._constant([key_heads, group, -1]), "all_tokens"], axis=0)
            biased = self._add("Add", [self._add("Reshape", [scores, apart]), "causal_bias"])
            together = self._add("Concat", [ROWS, self._constant([key_heads, -1]), "all_tokens"], axis=0)
            weighted = self._add("Reshape", [self._add("Softmax", [biased], axis=-1), together])
        context = self._add("MatMul", [weighted, values])
        by_head = self._add("Reshape", [context, self._constant([0, weights.heads, -1, size])])
        by_token = self._add("Transpose", [by_head], perm=[0, 2, 1, 3])
        return self._add("Reshape", [by_token, self._constant([0, 0, weights.heads * size])], name)

    def _activated(self, gate: str) -> str:
        match self._weights.activation:
            case "silu":
                return self._add("Mul", [gate, self._add("Sigmoid", [gate])])
            case "gelu":
                return self._add("Gelu", [gate], domain=MICROSOFT)
            case "gelu_tanh":
                # onnxruntime's name for the same formula; the approximation is the model's own.
                return self._add("FastGelu", [gate], domain=MICROSOFT)

    def _norm(self, hidden: str, scales: NDArray[np.float32], name: str) -> str:
        self._initializers[f"{name}.weight"] = _tensor(scales, f"{name}.weight")
        inputs = [hidden, f"{name}.weight"]
        return self._add("SimplifiedLayerNormalization", inputs, name, axis=-1, epsilon=self._weights.epsilon)

    def _linear(self, hidden: str, projection: Linear, name: str) -> str:
        if projection.bias is None:
            return self._matmul(hidden, projection.weight, name, output=name)
        product = self._matmul(hidden, projection.weight, name, output=f"{name}/product")
        self._initializers[f"{name}.bias"] = _tensor(projection.bias, f"{name}.bias")
        return self._add("Add", [product, f"{name}.bias"], name)

    def _matmul(self, hidden: str, weight: NDArray[np.float32], name: str, *, output: str) -> str:
        self._initializers[f"{name}.weight"] = _tensor(weight, f"{name}.weight")
        return self._add("MatMul", [hidden, f"{name}.weight"], output)

    def _constant(self, value: Any) -> str:
        array = np.asarray(value, dtype=np.int64) if isinstance(value, list) else np.asarray(value)
        text = "_".join(str(item) for item in array.reshape(-1).tolist()) if array.size <= 4 else "frequencies"  # noqa: PLR2004
        name = f"constant.{array.dtype}.{array.ndim}.{text}"
        if name not in self._initializers:
            self._initializers[name] = _tensor(array, name)
        return name

    def _add(self, op_type: str, inputs: list[str], output: str = "", *, domain: str = "", **attributes: Any) -> str:
        output = output or f"{op_type}.{len(self._build.nodes)}"
        return self._build.add(op_type, inputs, output, domain=domain, **attributes)


def _tensor(array: NDArray[Any], name: str) -> onnx.TensorProto:
    tensor: onnx.TensorProto = numpy_helper.from_array(array, name)
    return tensor
