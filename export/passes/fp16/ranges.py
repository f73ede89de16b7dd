"""Measures which values would exceed float16's range, by running the float32 graph on real pairs.

The CPU provider computes float16 graphs in float32, so running one on the CPU does not show any overflow.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crossrank.export.graph.files import save_graph
from crossrank.export.graph.shapes import probe_types
from crossrank.export.graph.tools import node_names, reads
from crossrank.export.passes.fp16.fused_internals import add_internals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BOUND = 32752.0
"""Half of float16's largest value, which leaves room for pairs with larger values than the measured ones."""

_LARGEST = float(np.finfo(np.float16).max)
_MASK = 1e30
"""Values from here on are masked scores, which may become infinite; nothing else in a valid graph is as large."""


@dataclass(frozen=True)
class Ranges:
    """The largest magnitudes measured.

    Attributes:
        tensors: of every float tensor that a node outputs, by tensor name.
        inside: of the intermediate values of every fused operator, by node name.
        not_measured: fused operators, as "operator name", whose intermediate values are not known.
    """

    tensors: Mapping[str, float]
    inside: Mapping[str, float]
    not_measured: tuple[str, ...]


def audit_ranges(model: onnx.ModelProto, feeds: Iterable[Mapping[str, np.ndarray[Any, Any]]]) -> Ranges:
    """Measure the largest magnitude of every float tensor and of the intermediate values of fused operators.

    Sums that the kernels of norms and softmax compute in float32 are not measured.

    Args:
        model: float32 graph; not changed.
        feeds: the inputs of each run.

    Returns:
        The magnitudes over all runs, without masked scores.
    """
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    names = sorted(name for name, kind in probe_types(model).items() if kind == TensorProto.FLOAT)
    internals, unknown = add_internals(extended)
    measured = list(dict.fromkeys((*names, *internals)))
    session = _session(extended, measured)
    del extended
    inputs = {item.name for item in session.get_inputs()}
    outputs = [_maximum_name(name) for name in measured]
    ranges = dict.fromkeys(measured, 0.0)
    for feed in feeds:
        values = {name: value for name, value in feed.items() if name in inputs}
        for name, value in zip(measured, session.run(outputs, values), strict=True):
            ranges[name] = max(ranges[name], float(value))
    inside: dict[str, float] = {}
    for name, node in internals.items():
        inside[node] = max(inside.get(node, 0.0), ranges[name])
    return Ranges({name: ranges[name] for name in names}, inside, tuple(unknown))


def nodes_out_of_range(model: onnx.ModelProto, ranges: Ranges, *, bound: float = BOUND) -> list[str]:
    """Nodes whose inputs, outputs or intermediate values exceed a bound, which `to_fp16` should keep in float32.

    Args:
        model: the graph the ranges were measured on.
        ranges: from `audit_ranges`.
        bound: largest magnitude allowed in float16.

    Returns:
        Their names in graph order, as `node_names` gives them.
    """
    beyond = {name for name, magnitude in ranges.tensors.items() if magnitude > bound}
    return [
        name
        for name, node in zip(node_names(model.graph), model.graph.node, strict=True)
        if beyond.intersection((*reads(node), *node.output)) or ranges.inside.get(name, 0.0) > bound
    ]


def nodes_with_large_weights(model: onnx.ModelProto) -> list[str]:
    """Nodes that read a weight with values beyond float16's range. Scalars, such as a mask's, are not weights.

    Args:
        model: a float32 graph.

    Returns:
        Their names in graph order, as `node_names` gives them.
    """
    large = {tensor.name for tensor in model.graph.initializer if _is_large(tensor)}
    return [
        name
        for name, node in zip(node_names(model.graph), model.graph.node, strict=True)
        if large.intersection(reads(node))
    ]


def _is_large(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) <= 1:
        return False
    sizes = np.abs(numpy_helper.to_array(tensor))
    return bool(np.any((sizes > _LARGEST) & (sizes < _MASK)))


def _maximum_name(name: str) -> str:
    return f"{name}/audit/most"


def _session(extended: onnx.ModelProto, names: Iterable[str]) -> Any:
    """A session that outputs the largest magnitude of each named tensor. Changes the graph.

    The maximum is taken inside the graph, because all hidden states of a large model together may not fit in memory.
    """
    import onnxruntime

    graph = extended.graph
    constants = {"audit/mask": _MASK, "audit/zero": 0.0}
    graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in constants.items())
    for name in names:
        size, ordinary, shown = (f"{name}/audit/{step}" for step in ("abs", "ordinary", "shown"))
        graph.node.extend(
            (
                helper.make_node("Abs", [name], [size]),
                helper.make_node("Less", [size, "audit/mask"], [ordinary]),
                helper.make_node("Where", [ordinary, size, "audit/zero"], [shown]),
                helper.make_node("ReduceMax", [shown], [_maximum_name(name)], keepdims=0),
            )
        )
        graph.output.append(helper.make_tensor_value_info(_maximum_name(name), TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # One thread adds in a fixed order, so that the figures are the same every time.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory(prefix="crossrank-") as folder:
        # Through a file, because protobuf serializes at most 2 GB.
        save_graph(extended, Path(folder), "audit.onnx", external_data_from=0)
        return onnxruntime.InferenceSession(
            str(Path(folder) / "audit.onnx"), options, providers=["CPUExecutionProvider"]
        )
