"""Telling what an ONNX file that exists already computes in, whichever way its weights were made smaller."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from crossrank.export.graph.tools import attributes, subgraphs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from crossrank.models.manifest import Precision

# Whatever else of onnxruntime's has a Q before its name is recognised by its prefix.
_QUANTIZED = frozenset(
    {
        "BitLinear",
        "ConvInteger",
        "DequantizeBFP",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "FusedMatMulQuantized",
        "GatherBlockQuantized",
        "GemmFloat8",
        "MatMulBnb4",
        "MatMulFpQ4",
        "MatMulInteger",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QuantizeBFP",
        "QuantizeLinear",
    }
)
_Q_PREFIXES = ("QLinear", "QAttention", "QEmbed", "QGemm", "QMoE", "QOrdered")
_WEIGHT_ELEMENTS = 1024
"""From this size on a tensor of integers is weights; tables of positions and shapes are of 32 or 64 bits."""


def stored_precision(model: onnx.ModelProto) -> Precision:
    """The precision a graph was stored in.

    Args:
        model: the graph with its weights.

    Returns:
        "int8" where any weight is quantized, in whatever way and to however many bits; "fp16" where a matrix is of
        float16 or bfloat16, converted to float32 at run time or not; else "fp32".
    """
    from onnx import TensorProto

    operators = {node.op_type for node in _nodes(model)}
    if operators & _QUANTIZED or any(operator.startswith(_Q_PREFIXES) for operator in operators):
        return "int8"
    small = {
        getattr(TensorProto, name)
        for name in (
            *("INT4", "UINT4", "INT2", "UINT2", "INT8", "UINT8", "FLOAT4E2M1", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ"),
            *("FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"),
        )
        if hasattr(TensorProto, name)
    }
    kinds = {tensor.data_type for tensor in _weights(model)}
    if kinds & small:
        return "int8"
    return "fp16" if kinds & {TensorProto.FLOAT16, TensorProto.BFLOAT16} else "fp32"


def _weights(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model):
        yield from (tensor for tensor in graph.initializer if math.prod(tensor.dims) >= _WEIGHT_ELEMENTS)
    for node in _nodes(model):
        if node.op_type == "Constant":
            value = attributes(node).get("value")
            if value is not None and math.prod(value.dims) >= _WEIGHT_ELEMENTS:
                yield value


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [inner for node in graph.node for inner in subgraphs(node)]


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node
