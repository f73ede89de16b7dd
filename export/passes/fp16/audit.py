"""Decides which nodes stay in float32 because float16 cannot hold their values, and says why for the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.graph.tools import heavy_tensors, node_names
from crossrank.export.passes.fp16.ranges import BOUND, audit_ranges, nodes_out_of_range, nodes_with_large_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from crossrank.export.passes.fp16.ranges import Ranges

AUDIT_PAIRS = 32
"""Pairs the ranges are measured on. Each costs about two runs of the float32 graph on one thread."""

_NAMED = 5


@dataclass(frozen=True)
class RangeAudit:
    """What an audit found.

    Attributes:
        keep: names of the nodes to keep in float32, in graph order.
        detail: for the manifest: largest values, how many nodes are kept and which.
    """

    keep: tuple[str, ...]
    detail: str


def audit_for_float16(
    model: onnx.ModelProto, calibration: Sequence[Mapping[str, NDArray[Any]]], *, pairs: int = AUDIT_PAIRS
) -> RangeAudit:
    """Find the nodes of a float32 graph that float16 has no room for.

    Args:
        model: the graph as it would be converted; not changed.
        calibration: feeds of one pair each; empty where there are none, and then weights alone are looked at.
        pairs: at most so many of them are run, spread from the shortest to the longest.
    """
    too_large = nodes_with_large_weights(model)
    if not calibration:
        return _found(model, too_large, "ranges not audited, there were no pairs to run")
    chosen = _spread(calibration, pairs)
    ranges = audit_ranges(model, chosen)
    beyond = {*too_large, *nodes_out_of_range(model, ranges)}
    seen = f"{_largest(model, ranges)} over {len(chosen)} pairs"
    if ranges.unseen:
        seen += f", not looked into: {_some(ranges.unseen)}"
    return _found(model, beyond, seen)


def _found(model: onnx.ModelProto, beyond: Iterable[str], seen: str) -> RangeAudit:
    wanted = set(beyond)
    nodes = [
        (name, node.op_type)
        for name, node in zip(node_names(model.graph), model.graph.node, strict=True)
        if name in wanted
    ]
    kept = f"; {len(nodes)} nodes kept in float32 for their range"
    if nodes:
        kept += f" (beyond {BOUND:.0f}): {_some([f'{operator} {name}' for name, operator in nodes])}"
    return RangeAudit(tuple(name for name, _ in nodes), seen + kept)


def _largest(model: onnx.ModelProto, ranges: Ranges) -> str:
    """The largest activation and the largest value inside a fused operator, with where they are."""
    activations = heavy_tensors(model.graph)
    made = {
        f"{node.op_type} {name}": max(ranges.tensors.get(tensor, 0.0) for tensor in node.output)
        for name, node in zip(node_names(model.graph), model.graph.node, strict=True)
        if activations.intersection(node.output)
    }
    operators = {name: node.op_type for name, node in zip(node_names(model.graph), model.graph.node, strict=True)}
    inside = {f"{operators[name]} {name}": most for name, most in ranges.inside.items()}
    told = [
        f"{what} {max(values.values()):.3g} ({max(values, key=lambda name: values[name])})"
        for what, values in (("largest activation", made), ("largest value inside a fused operator", inside))
        if values
    ]
    return ", ".join(told) or "no activation"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _spread(calibration: Sequence[Mapping[str, NDArray[Any]]], count: int) -> list[Mapping[str, NDArray[Any]]]:
    """Pairs from the shortest to the longest, evenly spread, the same ones every time."""
    ordered = sorted(calibration, key=lambda feed: max(array.size for array in feed.values()))
    indices = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int))
    return [ordered[index] for index in indices]
