"""Telling what an ONNX file that exists already computes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from crossrank.models.manifest import Precision

_QUANTIZED = frozenset(
    {
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)


def stored_precision(model: onnx.ModelProto) -> Precision:
    """The precision a graph was stored in.

    Args:
        model: the graph with its weights.

    Returns:
        "int8" where it has quantized operators, "fp16" where most of its weights are float16, else "fp32".
    """
    from onnx import TensorProto

    if any(node.op_type in _QUANTIZED for node in model.graph.node):
        return "int8"
    half = _elements(model, TensorProto.FLOAT16)
    return "fp16" if half > _elements(model, TensorProto.FLOAT) else "fp32"


def _elements(model: onnx.ModelProto, kind: int) -> int:
    total = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == kind:
            count = 1
            for size in tensor.dims:
                count *= size
            total += count
    return total
