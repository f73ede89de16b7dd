"""Folds constants and removes what does nothing, by onnxruntime's own basic optimizations."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from onnx import helper

from crossrank.export.passes.graph_tools import LARGE_BYTES, bytes_of, replace

_INLINE_LIMIT = 1 << 30
"""Bytes of weights up to which a graph is handed over whole; protobuf ends at 2 GB, and folding may add to it."""


def fold_constants(model: onnx.ModelProto, *, inline_limit: int = _INLINE_LIMIT) -> onnx.ModelProto:
    """Run onnxruntime's basic graph optimizations, which keep to standard operators.

    Args:
        model: the graph; not changed.
        inline_limit: bytes of weights above which they are not handed to onnxruntime; what could be folded out of
            weights then stays for it to fold when the graph is loaded.

    Returns:
        A new graph.
    """
    handed = onnx.ModelProto()
    handed.CopyFrom(model)
    weights = [tensor for tensor in model.graph.initializer if bytes_of(tensor) > LARGE_BYTES]
    if sum(bytes_of(tensor) for tensor in weights) <= inline_limit:
        return _optimized(handed)
    names = {tensor.name for tensor in weights}
    replace(handed.graph.initializer, [tensor for tensor in handed.graph.initializer if tensor.name not in names])
    handed.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in weights
    )
    folded = _optimized(handed)
    used = {name for node in folded.graph.node for name in node.input}
    replace(folded.graph.input, [value for value in folded.graph.input if value.name not in names])
    folded.graph.initializer.extend(tensor for tensor in weights if tensor.name in used)
    return folded


def _optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory(prefix="crossrank-") as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            # It merges equal constants under new names, and attention is then not recognised.
            disabled_optimizers=["ConstantSharing"],
        )
        return onnx.load(path)
