"""Finds tensors that would be copied between the CPU and the GPU in every run of a graph on CUDA.

onnxruntime computes shape arithmetic on the CPU, where CUDA kernels read shapes, axes and limits. Any other tensor that
goes from one to the other is copied, and a graph with copies cannot be captured as a CUDA graph.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from crossrank.export.cuda_placement.kernels import cuda_kernels
from crossrank.export.graph.tools import GraphView, node_names, reads

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

_SHAPE = frozenset(("Shape", "Size"))
_SMALL = 100
"""Most elements of a constant that onnxruntime treats as cheap to read on the CPU."""


def find_copies(graph: onnx.GraphProto, types: Mapping[str, str]) -> dict[str, str]:
    """Find the nodes of a graph that would wait for a copy.

    Follows onnxruntime's rule for nodes that stay on the CPU: every input is already on the CPU, a small constant or an
    input of the graph; but not if the node's CUDA kernel reads an input on the CPU anyway, or an input is float16.

    Args:
        graph: the graph; subgraphs are not searched.
        types: tensor name to its element type.

    Returns:
        Node name to a sentence about the copy, in graph order.
    """
    table, view = cuda_kernels(), GraphView(graph)
    constant = {tensor.name for tensor in graph.initializer}
    small = {tensor.name for tensor in graph.initializer if math.prod(tensor.dims) <= _SMALL}
    on_cpu: set[str] = set()
    copies: dict[str, str] = {}
    for name, node in zip(node_names(graph), graph.node, strict=True):
        if node.op_type == "Constant" or (node.input and constant.issuperset(reads(node))):
            constant.update(node.output)
            value = view.constant(node.output[0])
            if value is None or value.size <= _SMALL:
                small.update(node.output)
            continue
        if node.op_type in _SHAPE or not table.of(node.domain, node.op_type):
            on_cpu.update(node.output)
            continue
        host_indices = (
            table.host_inputs.get(node.op_type, frozenset()) if node.domain in ("", "ai.onnx") else frozenset()
        )
        inputs = [(index, tensor) for index, tensor in enumerate(node.input) if tensor]
        stays = on_cpu.intersection(node.input) and all(
            "float16" not in types.get(tensor, "")
            and (tensor in small or tensor in view.inputs or (tensor in on_cpu and index not in host_indices))
            for index, tensor in inputs
        )
        if stays:
            on_cpu.update(node.output)
            continue
        for index, tensor in inputs:
            if tensor in on_cpu and index not in host_indices:
                copies.setdefault(name, f"{tensor} is made on the CPU and copied at every run")
            elif index in host_indices and tensor not in on_cpu and tensor not in constant:
                copies.setdefault(name, f"{tensor} is read on the CPU and copied at every run")
    return copies
