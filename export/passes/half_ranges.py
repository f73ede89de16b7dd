"""Finds what would leave float16's range, by running the float32 graph on real pairs.

The CPU provider computes float16 graphs in float32 and hides every overflow, so a test there cannot find one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crossrank.export.passes.shapes import probe_types

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BOUND = 32752.0
"""Half of float16's largest value: room for pairs that are worse than those the ranges were measured on."""

_MASK = 1e30
"""Masked scores lie beyond this; they may become infinite, and nothing else in a sound graph is as large."""


def audit_ranges(model: onnx.ModelProto, feeds: Iterable[Mapping[str, np.ndarray[Any, Any]]]) -> dict[str, float]:
    """Measure the largest magnitude of every float tensor.

    What happens inside a fused operator is not seen.

    Args:
        model: float32 graph, below 2 GB; not changed.
        feeds: inputs of one run each.

    Returns:
        Tensor name to the largest magnitude over all runs, masked scores left out.
    """
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = sorted(name for name, kind in probe_types(model).items() if kind == TensorProto.FLOAT)
    constants = {"audit/mask": _MASK, "audit/zero": 0.0}
    watched.graph.initializer.extend(
        numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()
    )
    for name in names:
        # Reduced inside the graph: all hidden states of a large model at once would not fit into memory.
        size, ordinary, shown, most = (f"{name}/audit/{step}" for step in ("abs", "ordinary", "shown", "most"))
        watched.graph.node.extend(
            (
                helper.make_node("Abs", [name], [size]),
                helper.make_node("Less", [size, "audit/mask"], [ordinary]),
                helper.make_node("Where", [ordinary, size, "audit/zero"], [shown]),
                helper.make_node("ReduceMax", [shown], [most], keepdims=0),
            )
        )
        watched.graph.output.append(helper.make_tensor_value_info(most, TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [f"{name}/audit/most" for name in names]
    ranges = dict.fromkeys(names, 0.0)
    for feed in feeds:
        for name, value in zip(names, session.run(outputs, dict(feed)), strict=True):
            ranges[name] = max(ranges[name], float(value))
    return ranges


def nodes_out_of_range(model: onnx.ModelProto, ranges: Mapping[str, float], *, bound: float = BOUND) -> list[str]:
    """Nodes that read or make a tensor beyond the bound: what `to_fp16` should keep in float32.

    Args:
        model: the graph the ranges were measured on; its nodes have names.
        ranges: from `audit_ranges`.
        bound: largest magnitude that float16 is trusted with.
    """
    beyond = {name for name, most in ranges.items() if most > bound}
    return [node.name for node in model.graph.node if beyond.intersection((*node.input, *node.output))]
