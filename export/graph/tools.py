"""Tools that the graph passes share: producers and consumers, constants, dead nodes, and copies without weights."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FLOATS = frozenset((onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16))
_BITS_OF_SMALL_TYPES = {
    getattr(onnx.TensorProto, name): bits
    for names, bits in (
        (("INT2", "UINT2"), 2),
        (("INT4", "UINT4", "FLOAT4E2M1"), 4),
        (("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"), 8),
    )
    for name in names
    if hasattr(onnx.TensorProto, name)
}
"""Types of which onnxruntime makes no tensor at run time, and their widths."""
LARGE_BYTES = 4096
"""Initializers above this size are weights; shapes, axes and scalars are far below it."""

# Outputs of these operators depend on weights, unlike shape arithmetic, masks and positions.
_HEAVY = frozenset(
    (
        "Attention",
        "EmbedLayerNormalization",
        "FusedMatMul",
        "Gemm",
        "LayerNormalization",
        "MultiHeadAttention",
        "SkipLayerNormalization",
    )
)


class GraphView:
    """Index of a graph, valid as long as the graph is not changed.

    Attributes:
        graph: the graph.
        producers: tensor name to the node that outputs it.
        consumers: tensor name to the nodes that read it, in graph order; readers inside subgraphs count for
            the node that holds the subgraph.
        inputs: names the caller must feed.
        outputs: names of the graph's outputs.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.producers: dict[str, onnx.NodeProto] = {}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._constants: dict[str, np.ndarray[Any, Any] | None] = {}
        for node in graph.node:
            for name in node.output:
                self.producers[name] = node
            for name in reads(node):
                self.consumers.setdefault(name, []).append(node)
        self.inputs = {value.name for value in graph.input} - set(self._initializers)
        self.outputs = {value.name for value in graph.output}

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is an initializer or the output of a Constant node."""
        return name in self._initializers or (name in self.producers and self.producers[name].op_type == "Constant")

    def is_matrix(self, name: str) -> bool:
        """Whether a tensor is a float constant with two or more axes longer than 1: a weight, or an embedding table.

        The frequencies of rotary embeddings have several axes, but only one longer than 1.
        """
        tensor = self._initializers.get(name)
        if tensor is not None:
            return sum(size > 1 for size in tensor.dims) > 1 and tensor.data_type in _FLOATS
        value = self.constant(name)
        return value is not None and sum(size > 1 for size in value.shape) > 1 and value.dtype.kind == "f"

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        """The value of an initializer or a Constant node; None for any other tensor."""
        if name not in self._constants:
            self._constants[name] = self._read_constant(name)
        return self._constants[name]

    def _read_constant(self, name: str) -> np.ndarray[Any, Any] | None:
        if name in self._initializers:
            return np.asarray(numpy_helper.to_array(self._initializers[name]))
        node = self.producers.get(name)
        if node is None or node.op_type != "Constant":
            return None
        value = attributes(node)
        if "value" in value:
            return np.asarray(numpy_helper.to_array(value["value"]))
        kinds = {
            "value_int": np.int64,
            "value_ints": np.int64,
            "value_float": np.float32,
            "value_floats": np.float32,
        }
        for key, dtype in kinds.items():
            if key in value:
                return np.asarray(value[key], dtype=dtype)
        return None


def constant_node(name: str, value: np.ndarray[Any, Any]) -> onnx.NodeProto:
    """A Constant node whose output has the given name."""
    return helper.make_node("Constant", [], [name], name=name, value=numpy_helper.from_array(value))


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values (tensors stay TensorProto)."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a node (branches of If, bodies of Loop and Scan)."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads: its inputs, and the outer tensors that its subgraphs read."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        inside = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        inside |= {name for inner in graph.node for name in inner.output}
        names += [name for inner in graph.node for name in reads(inner) if name not in inside]
        names += [value.name for value in graph.output if value.name not in inside]
    return names


def remove_dead(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers that no graph output depends on. Changes the graph in place."""
    live = {value.name for value in graph.output}
    live_nodes = []
    for node in reversed(graph.node):
        if live.intersection(node.output):
            live.update(reads(node))
            live_nodes.append(node)
    replace(graph.node, reversed(live_nodes))
    # Deleted one by one, because replacing the field would copy all weights.
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in live:
            del graph.initializer[index]
    replace(graph.value_info, [value for value in graph.value_info if value.name in live])


def heavy_tensors(graph: onnx.GraphProto) -> set[str]:
    """Tensors that depend on weights, such as hidden states, scores and logits, and not only on shapes or inputs."""
    view = GraphView(graph)
    heavy: set[str] = set()
    for node in graph.node:
        if node.op_type == "Shape":
            continue
        by_weight = node.op_type in ("Gather", "MatMul") and any(map(view.is_matrix, node.input))
        if by_weight or node.op_type in _HEAVY or heavy.intersection(reads(node)):
            heavy.update(node.output)
    return heavy


def replace(field: Any, items: Iterable[Any]) -> None:
    """Replace all items of a repeated protobuf field; the new items may come from the field itself."""
    new = list(items)
    del field[:]
    field.extend(new)


def count_operators(graph: onnx.GraphProto) -> Counter[str]:
    """Number of nodes of each operator in a graph, including its subgraphs."""
    counts: Counter[str] = Counter(node.op_type for node in graph.node)
    for node in graph.node:
        for inner in subgraphs(node):
            counts += count_operators(inner)
    return counts


def node_names(graph: onnx.GraphProto) -> list[str]:
    """The names of all nodes in graph order, with a generated name for a node without one."""
    return [node.name or f"{node.op_type}_{index}_unnamed" for index, node in enumerate(graph.node)]


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operator set that a model imports."""
    return max(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large weights are zeros made at run time, so that it is small for every model.

    Shapes are the same as in the original, values are not. Checkers, shape inference and sessions need a serialized
    graph, and protobuf cannot serialize more than 2 GB.
    """
    light = onnx.ModelProto(
        ir_version=model.ir_version,
        opset_import=model.opset_import,
        functions=model.functions,
    )
    light.graph.name = model.graph.name
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if bytes_of(tensor) <= LARGE_BYTES:
            light.graph.initializer.append(tensor)
            continue
        bits = _BITS_OF_SMALL_TYPES.get(tensor.data_type)
        if bits is not None:  # stays as large as it is
            zeros = bytes(-(-math.prod(tensor.dims) * bits // 8))
            light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=zeros)
            continue
        shape = f"{tensor.name}/dims"
        light.graph.initializer.append(numpy_helper.from_array(np.asarray(tensor.dims, dtype=np.int64), shape))
        zero = helper.make_tensor("value", tensor.data_type, [1], [0])
        light.graph.node.append(helper.make_node("ConstantOfShape", [shape], [tensor.name], name=shape, value=zero))
    light.graph.node.extend(model.graph.node)
    return light


def bytes_of(tensor: onnx.TensorProto) -> int:
    """Size of a tensor's values in bytes."""
    width: int = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    size: int = width * math.prod(tensor.dims)
    return size
