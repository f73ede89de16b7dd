"""Splits fused `Attention` into three products and `MultiHeadAttention`, so that the products can be quantized.

onnxruntime's int8 operator, `QAttention`, multiplies head by head; three products over all heads take less time, and
without a mask `MultiHeadAttention` works in blocks that fit the processor's cache. Without a mask the pairs of a batch
must have the same length, which int8 requires anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from crossrank.export.graph.editing import MICROSOFT, GraphEdit, NodeBuilder
from crossrank.export.graph.tools import GraphView, attributes, remove_dead, replace
from crossrank.export.passes.int8.zero_terms import drop_zero_terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from crossrank.export.passes.int8.products import Site

_PARTS = ("query", "key", "value")
_IDS, _MASK = "input_ids", "attention_mask"


def split_attention(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace every fused `Attention` with constant weights by products and a `MultiHeadAttention` without a mask.

    Args:
        model: the float32 graph; not changed.

    Returns:
        A new graph for pairs of one length, or `model` itself if it has no such node.
    """
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    edit, build = GraphEdit(model), NodeBuilder()
    split_any = False
    for node in model.graph.node:
        if node.op_type == "Attention" and node.domain == MICROSOFT and _is_plain(node, arrays):
            build.nodes = []
            _split(node, arrays, build)
            edit.instead(node.output[0], build.nodes)
            split_any = True
    edit.store(build)
    return edit.finish() if split_any else model


def drop_mask(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the attention mask from a graph's inputs: pairs of one length need none.

    If only a part of the graph still used the mask, padded pairs would silently get wrong scores.

    Args:
        model: the graph; changed in place if it has a mask.

    Returns:
        The same model with a mask of ones in place of the input, and without the zeros that such a mask adds to scores.
    """
    inputs = {item.name: item for item in model.graph.input}
    if not {_IDS, _MASK} <= inputs.keys():
        return model
    kind = helper.tensor_dtype_to_np_dtype(inputs[_MASK].type.tensor_type.elem_type)
    one: onnx.TensorProto = numpy_helper.from_array(np.ones(1, kind))
    shape = f"{_MASK}/shape"
    build = NodeBuilder()
    build.add("Shape", [_IDS], shape)
    build.add("ConstantOfShape", [shape], _MASK, name=f"{_MASK}/ones", value=one)
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] == _MASK:
            node.input[0] = _IDS  # the same shape, and packing wants no use of the mask left
    replace(model.graph.input, [item for item in model.graph.input if item.name != _MASK])
    replace(model.graph.node, [*build.nodes, *model.graph.node])
    remove_dead(model.graph)
    return drop_zero_terms(model)


def contexts_of_values(model: onnx.ModelProto, sites: Sequence[Site]) -> dict[str, str]:
    """Find attention whose values come from a product and whose context is read only by products.

    There a shift or scale of a channel can be applied to the values instead of the context, because the weights of a
    softmax sum to one.

    Returns:
        Name of the product that makes the values to name of the context.
    """
    view = GraphView(model.graph)
    products = {site.output for site in sites}
    read_by_sites = {name: {site.nodes[0] for site in sites if site.input == name} for name in (s.input for s in sites)}
    contexts: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type != "MultiHeadAttention" or node.domain != MICROSOFT or len(node.input) != len(_PARTS):
            continue
        value, context = node.input[2], node.output[0]
        read_once = len(view.consumers[value]) == 1
        readers = {reader.output[0] for reader in view.consumers.get(context, [])}
        read_by_products = readers == read_by_sites.get(context) and context not in view.outputs
        if value in products and read_once and read_by_products:
            contexts[value] = context
    return contexts


def _split(node: onnx.NodeProto, arrays: Mapping[str, NDArray[Any]], build: NodeBuilder) -> None:
    source, weight, bias = node.input[0], arrays[node.input[1]], arrays[node.input[2]]
    parts = []
    for part, matrix, vector in zip(_PARTS, np.split(weight, 3, axis=1), np.split(bias, 3), strict=True):
        name = f"{node.output[0]}/{part}"
        product = build.add("MatMul", [source, build.tensor(f"{name}.weight", matrix)], f"{name}.product")
        parts.append(build.add("Add", [product, build.tensor(f"{name}.bias", vector)], name))
    values = attributes(node)
    kept = {key: values[key] for key in ("num_heads", "scale") if key in values}
    build.add("MultiHeadAttention", parts, node.output[0], name=node.name, domain=MICROSOFT, **kept)


def _is_plain(node: onnx.NodeProto, arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether attention has no past, no score bias and equal sizes of queries, keys and values."""
    weight = arrays.get(node.input[1])
    if weight is None or weight.dtype != np.float32 or weight.ndim != 2 or weight.shape[1] % 3:  # noqa: PLR2004
        return False
    bias = arrays.get(node.input[2]) if len(node.input) > 2 else None  # noqa: PLR2004
    if bias is None or bias.shape != (weight.shape[1],):
        return False
    if any(node.input[4:]) or len([name for name in node.output if name]) != 1:
        return False
    values = attributes(node)
    if values.get("unidirectional", 0) or values.get("do_rotary", 0):
        return False
    sizes = list(values.get("qkv_hidden_sizes", []))
    return not sizes or len(set(sizes)) == 1
