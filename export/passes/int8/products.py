"""Finds what can be quantized to int8: products with constant matrices, and embedding tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.graph.tools import GraphView, attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

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
        nodes: first outputs of the nodes that the quantized product replaces; the result replaces the last one.
    """

    name: str
    input: str
    output: str
    weight: str
    transposed: bool
    bias: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One embedding table and the `Gather` nodes that read rows of it.

    Attributes:
        weight: name of the initializer, shape [rows, columns].
        nodes: the `Gather` nodes.
    """

    weight: str
    nodes: tuple[onnx.NodeProto, ...]


def _is_matrix(array: NDArray[Any] | None) -> bool:
    return array is not None and array.ndim == 2 and array.dtype == np.float32 and min(array.shape) > 1  # noqa: PLR2004


def _bias_after(node: onnx.NodeProto, view: GraphView, arrays: Mapping[str, NDArray[Any]]) -> tuple[str, str]:
    """Output and bias of the `Add` of a constant vector that is the only reader of a product; "" twice for none."""
    result, columns = node.output[0], arrays[node.input[1]].shape[1]
    readers = view.consumers.get(result, [])
    if len(readers) != 1 or result in view.outputs or readers[0].op_type != "Add" or readers[0].domain:
        return "", ""
    bias = readers[0].input[1] if readers[0].input[0] == result else readers[0].input[0]
    array = arrays.get(bias)
    if array is None or array.dtype != np.float32 or array.shape != (columns,):
        return "", ""
    return readers[0].output[0], bias


def find_sites(model: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> list[Site]:
    """Find every product with a constant float32 matrix, in graph order.

    Args:
        model: the float32 graph.
        arrays: its initializers as arrays.

    Returns:
        `MatMul` with a constant right side (and the constant bias added to it), and `Gemm` without scaling.
    """
    view = GraphView(model.graph)
    sites: list[Site] = []
    for node in model.graph.node:
        output = node.output[0]
        if node.op_type == "MatMul" and not node.domain and _is_matrix(arrays.get(node.input[1])):
            biased, bias = _bias_after(node, view, arrays)
            nodes = (output, biased) if biased else (output,)
            sites.append(Site(nodes[-1], node.input[0], nodes[-1], node.input[1], False, bias, nodes))
        elif node.op_type == "Gemm" and not node.domain and _plain_gemm(node, arrays):
            bias = node.input[2] if len(node.input) > 2 else ""  # noqa: PLR2004
            transposed = bool(attributes(node).get("transB", 0))
            sites.append(Site(output, node.input[0], output, node.input[1], transposed, bias, (output,)))
    return sites


def _plain_gemm(node: onnx.NodeProto, arrays: Mapping[str, NDArray[Any]]) -> bool:
    values = attributes(node)
    if not _is_matrix(arrays.get(node.input[1])) or values.get("transA", 0):
        return False
    if values.get("alpha", 1.0) != 1.0 or values.get("beta", 1.0) != 1.0:
        return False
    if len(node.input) < 3 or not node.input[2]:  # noqa: PLR2004
        return True
    columns = arrays[node.input[1]].shape[0 if values.get("transB", 0) else 1]
    bias = arrays.get(node.input[2])
    return bias is not None and bias.shape == (columns,)


def find_tables(model: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> list[Table]:
    """Find embedding tables: float32 matrices that are read only by `Gather` along their rows."""
    view = GraphView(model.graph)
    tables: list[Table] = []
    for name, array in arrays.items():
        readers = view.consumers.get(name, [])
        large = _is_matrix(array) and array.shape[0] >= EMBEDDING_MIN_ROWS
        if large and readers and all(_takes_rows(node, name) for node in readers):
            tables.append(Table(name, tuple(readers)))
    return tables


def _takes_rows(node: onnx.NodeProto, table: str) -> bool:
    is_gather = node.op_type == "Gather" and not node.domain
    return is_gather and node.input[0] == table and attributes(node).get("axis", 0) == 0
