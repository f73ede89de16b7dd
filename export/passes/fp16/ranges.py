"""Measures what would leave float16's range, by running the float32 graph on real pairs.

The CPU provider computes float16 graphs in float32 and hides every overflow, so a test there cannot find one.
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
from crossrank.export.passes.fp16.inside_fused import add_insides

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BOUND = 32752.0
"""Half of float16's largest value: room for pairs that are worse than those the ranges were measured on."""

_LARGEST = float(np.finfo(np.float16).max)
_MASK = 1e30
"""Masked scores lie beyond this; they may become infinite, and nothing else in a sound graph is as large."""


@dataclass(frozen=True)
class Ranges:
    """The largest magnitudes seen.

    Attributes:
        tensors: of every float tensor that a node makes.
        inside: of every fused operator, by the node's name: the largest of what it makes on the way.
        unseen: fused operators, as "operator name", whose inside could not be looked at.
    """

    tensors: Mapping[str, float]
    inside: Mapping[str, float]
    unseen: tuple[str, ...]


def audit_ranges(model: onnx.ModelProto, feeds: Iterable[Mapping[str, np.ndarray[Any, Any]]]) -> Ranges:
    """Measure the largest magnitude of every float tensor and of what fused operators hold inside.

    Sums within a norm's or a softmax's kernel are not seen where the kernel makes them in float32.

    Args:
        model: float32 graph; not changed.
        feeds: inputs of one run each.

    Returns:
        The magnitudes over all runs, masked scores left out.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = sorted(name for name, kind in probe_types(model).items() if kind == TensorProto.FLOAT)
    inside, unseen = add_insides(watched)
    watch = list(dict.fromkeys((*names, *inside)))
    session = _session(watched, watch)
    del watched
    inputs = {item.name for item in session.get_inputs()}
    outputs = [_most(name) for name in watch]
    ranges = dict.fromkeys(watch, 0.0)
    for feed in feeds:
        given = {name: value for name, value in feed.items() if name in inputs}
        for name, value in zip(watch, session.run(outputs, given), strict=True):
            ranges[name] = max(ranges[name], float(value))
    hidden: dict[str, float] = {}
    for name, node in inside.items():
        hidden[node] = max(hidden.get(node, 0.0), ranges[name])
    return Ranges({name: ranges[name] for name in names}, hidden, tuple(unseen))


def nodes_out_of_range(model: onnx.ModelProto, ranges: Ranges, *, bound: float = BOUND) -> list[str]:
    """Nodes that read, make or hold inside what lies beyond the bound: what `to_fp16` should keep in float32.

    Args:
        model: the graph the ranges were measured on.
        ranges: from `audit_ranges`.
        bound: largest magnitude that float16 is trusted with.

    Returns:
        Their names in graph order, made up as `node_names` does where a node has none.
    """
    beyond = {name for name, most in ranges.tensors.items() if most > bound}
    return [
        name
        for name, node in zip(node_names(model.graph), model.graph.node, strict=True)
        if beyond.intersection((*reads(node), *node.output)) or ranges.inside.get(name, 0.0) > bound
    ]


def nodes_with_large_weights(model: onnx.ModelProto) -> list[str]:
    """Nodes that read a weight float16 cannot hold. Single numbers, such as a mask's, are not weights.

    Args:
        model: a float32 graph.

    Returns:
        Their names in graph order, made up as `node_names` does where a node has none.
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


def _most(name: str) -> str:
    return f"{name}/audit/most"


def _session(watched: onnx.ModelProto, names: Iterable[str]) -> Any:
    """A session that gives the largest magnitude of each tensor named. Changes the graph.

    They are reduced inside the graph, because all hidden states of a large model at once would not fit into memory.
    """
    import onnxruntime

    graph = watched.graph
    constants = {"audit/mask": _MASK, "audit/zero": 0.0}
    graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in constants.items())
    for name in names:
        size, ordinary, shown = (f"{name}/audit/{step}" for step in ("abs", "ordinary", "shown"))
        graph.node.extend(
            (
                helper.make_node("Abs", [name], [size]),
                helper.make_node("Less", [size, "audit/mask"], [ordinary]),
                helper.make_node("Where", [ordinary, size, "audit/zero"], [shown]),
                helper.make_node("ReduceMax", [shown], [_most(name)], keepdims=0),
            )
        )
        graph.output.append(helper.make_tensor_value_info(_most(name), TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # One thread adds in one order, so that the figures are the same every time.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory(prefix="crossrank-") as folder:
        # By way of a file, because protobuf hands over no more than 2 GB.
        save_graph(watched, Path(folder), "audit.onnx", external_data_from=0)
        return onnxruntime.InferenceSession(
            str(Path(folder) / "audit.onnx"), options, providers=["CPUExecutionProvider"]
        )
