"""Finds what can be quantized to int8: products with constant matrices, and embedding tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

MICROSOFT = "com.microsoft"
EMBEDDING_MIN_ROWS = 256
"""Smaller tables (segment types, relative positions of a few buckets) gain nothing from eight bits."""


@dataclass(frozen=True)
class Site:
    """One product of an activation with a constant matrix.

    Attributes:
        name: name of the result; unique in a graph, the same in every export.
        input: name of the activation, shape [..., rows].
        output: name of the result after the bias.
        weight: name of the initializer.
        transposed: whether the initializer is [columns, rows].
        bias: name of the bias initializer, or "" if there is no bias.
        nodes: indices, in the graph's node list, of the nodes that the quantized product replaces; the result
            replaces the last one.
    """

    name: str
    input: str
    output: str
    weight: str
    transposed: bool
    bias: str
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Table:
    """One embedding table and the `Gather` nodes that read rows of it.

    Attributes:
        weight: name of the initializer, shape [rows, columns].
        nodes: indices of the `Gather` nodes in the graph's node list.
    """

    weight: str
    nodes: tuple[int, ...]


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute, or the default if the node does not have it."""
    from onnx import helper

    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def consumers(nodes: Sequence[onnx.NodeProto]) -> dict[str, list[int]]:
    """Map each tensor name to the indices of the nodes that read it, in graph order."""
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        for name in dict.fromkeys(node.input):
            if name:
                readers.setdefault(name, []).append(index)
    return readers


def _is_matrix(array: NDArray[Any] | None) -> bool:
    return array is not None and array.ndim == 2 and array.dtype == np.float32 and min(array.shape) > 1  # noqa: PLR2004


def _bias_after(
    graph: onnx.GraphProto,
    index: int,
    readers: Mapping[str, list[int]],
    arrays: Mapping[str, NDArray[Any]],
    columns: int,
) -> tuple[int, str] | None:
    """Find the `Add` of a constant vector that is the only reader of a node's result."""
    result = graph.node[index].output[0]
    if len(readers.get(result, [])) != 1 or any(result == output.name for output in graph.output):
        return None
    follower = readers[result][0]
    node = graph.node[follower]
    if node.op_type != "Add" or node.domain:
        return None
    bias = node.input[1] if node.input[0] == result else node.input[0]
    array = arrays.get(bias)
    if array is None or array.dtype != np.float32 or array.shape != (columns,):
        return None
    return follower, bias


def find_sites(model: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> list[Site]:
    """Find every product with a constant float32 matrix, in graph order.

    Args:
        model: the float32 graph.
        arrays: its initializers as arrays.

    Returns:
        `MatMul` with a constant right side (and the constant bias added to it), and `Gemm` without scaling.
    """
    graph = model.graph
    readers = consumers(graph.node)
    sites: list[Site] = []
    for index, node in enumerate(graph.node):
        if node.op_type == "MatMul" and not node.domain and _is_matrix(arrays.get(node.input[1])):
            columns = arrays[node.input[1]].shape[1]
            follower = _bias_after(graph, index, readers, arrays, columns)
            nodes = (index, *(follower[:1] if follower else ()))
            output = graph.node[nodes[-1]].output[0]
            bias = follower[1] if follower else ""
            sites.append(Site(output, node.input[0], output, node.input[1], False, bias, nodes))
        elif node.op_type == "Gemm" and not node.domain and _plain_gemm(node, arrays):
            bias = node.input[2] if len(node.input) > 2 else ""  # noqa: PLR2004
            transposed, output = bool(attribute(node, "transB", 0)), node.output[0]
            sites.append(Site(output, node.input[0], output, node.input[1], transposed, bias, (index,)))
    return sites


def _plain_gemm(node: onnx.NodeProto, arrays: Mapping[str, NDArray[Any]]) -> bool:
    if not _is_matrix(arrays.get(node.input[1])) or attribute(node, "transA", 0):
        return False
    if attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0:
        return False
    if len(node.input) < 3 or not node.input[2]:  # noqa: PLR2004
        return True
    columns = arrays[node.input[1]].shape[0 if attribute(node, "transB", 0) else 1]
    bias = arrays.get(node.input[2])
    return bias is not None and bias.shape == (columns,)


def find_tables(model: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> list[Table]:
    """Find embedding tables: float32 matrices that are read only by `Gather` along their rows."""
    graph = model.graph
    readers = consumers(graph.node)
    tables: list[Table] = []
    for name, array in arrays.items():
        indices = readers.get(name, [])
        if not indices or not _is_matrix(array) or array.shape[0] < EMBEDDING_MIN_ROWS:
            continue
        nodes = [graph.node[index] for index in indices]
        if all(_takes_rows(node, name) for node in nodes):
            tables.append(Table(name, tuple(indices)))
    return tables


def _takes_rows(node: onnx.NodeProto, table: str) -> bool:
    return node.op_type == "Gather" and not node.domain and node.input[0] == table and attribute(node, "axis", 0) == 0
