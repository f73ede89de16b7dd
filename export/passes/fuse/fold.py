"""Folds constants and removes nodes without effect, with onnxruntime's basic optimizations and one more."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from onnx import helper, numpy_helper

from crossrank.export.graph.shapes import probe_fixed, probe_types
from crossrank.export.graph.tools import LARGE_BYTES, bytes_of, reads, remove_dead, replace

_INLINE_LIMIT = 1 << 30
"""Bytes of weights up to which a graph is passed whole; protobuf is limited to 2 GB, and folding may add weights."""


def fold_constants(model: onnx.ModelProto, *, inline_limit: int = _INLINE_LIMIT) -> onnx.ModelProto:
    """Run onnxruntime's basic graph optimizations, which use only standard operators.

    Args:
        model: the graph; not changed.
        inline_limit: bytes of weights above which the weights are not passed to onnxruntime; constants that follow from
            weights are then folded only when the graph is loaded.

    Returns:
        A new graph.
    """
    passed = onnx.ModelProto()
    passed.CopyFrom(model)
    weights = [tensor for tensor in model.graph.initializer if bytes_of(tensor) > LARGE_BYTES]
    if sum(bytes_of(tensor) for tensor in weights) <= inline_limit:
        return _optimized(passed)
    names = {tensor.name for tensor in weights}
    replace(passed.graph.initializer, [tensor for tensor in passed.graph.initializer if tensor.name not in names])
    passed.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in weights
    )
    folded = _optimized(passed)
    used = {name for node in folded.graph.node for name in node.input}
    replace(folded.graph.input, [value for value in folded.graph.input if value.name not in names])
    folded.graph.initializer.extend(tensor for tensor in weights if tensor.name in used)
    return folded


def fold_scales(model: onnx.ModelProto) -> None:
    """Replace floats that depend only on fixed dimensions by constants. Changes the graph in place.

    Some exporters divide scores by the square root of a dimension that the graph reads from a Shape node. onnxruntime
    would compute it on the CPU and copy it to the GPU in every run, which CUDA graphs do not allow.

    Args:
        model: a graph whose inputs are integer tensors [batch, sequence].
    """
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer if bytes_of(tensor) <= LARGE_BYTES}
    of_shapes: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        if node.op_type in ("Constant", "Shape", "Size") or (node.input and known.issuperset(reads(node))):
            known.update(node.output)
            of_shapes.update(dict.fromkeys(node.output, node))
    readers = [node for node in graph.node if not known.issuperset(node.output)]
    read = [name for node in readers for name in reads(node)]
    types = probe_types(model)
    candidates = [
        name
        for name in dict.fromkeys(read)
        if name in of_shapes and types.get(name) == onnx.TensorProto.FLOAT and of_shapes[name].op_type != "Constant"
    ]
    fixed = probe_fixed(model, candidates) if candidates else {}
    folded = {name for name in fixed if len(of_shapes[name].output) == 1}
    replace(graph.node, [node for node in graph.node if not folded.issuperset(node.output)])
    graph.initializer.extend(numpy_helper.from_array(fixed[name], name) for name in candidates if name in folded)
    remove_dead(graph)


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
            # ConstantSharing merges equal constants under new names, and attention is then not recognised.
            disabled_optimizers=["ConstantSharing"],
        )
        return onnx.load(path)
