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

_MOST_NAMES = 5


@dataclass(frozen=True)
class RangeAudit:
    """Which nodes an audit keeps in float32, and why.

    Attributes:
        keep: names of the nodes to keep in float32, in graph order.
        detail: for the manifest: largest values, how many nodes are kept and which.
    """

    keep: tuple[str, ...]
    detail: str


def audit_for_float16(
    model: onnx.ModelProto, calibration: Sequence[Mapping[str, NDArray[Any]]], *, pairs: int = AUDIT_PAIRS
) -> RangeAudit:
    """Find the nodes of a float32 graph whose values exceed float16's range.

    Args:
        model: the graph as it would be converted; not changed.
        calibration: feeds of one pair each; if empty, only weights are checked.
        pairs: most pairs to run, chosen evenly from the shortest to the longest.
    """
    too_large = nodes_with_large_weights(model)
    if not calibration:
        return _range_audit(model, too_large, "ranges not audited, there were no pairs to run")
    chosen = _evenly_spread(calibration, pairs)
    ranges = audit_ranges(model, chosen)
    beyond = {*too_large, *nodes_out_of_range(model, ranges)}
    measured = f"{_largest(model, ranges)} over {len(chosen)} pairs"
    if ranges.not_measured:
        measured += f", not looked into: {_first_names(ranges.not_measured)}"
    return _range_audit(model, beyond, measured)


def _range_audit(model: onnx.ModelProto, beyond: Iterable[str], measured: str) -> RangeAudit:
    names = set(beyond)
    nodes = [
        (name, node.op_type)
        for name, node in zip(node_names(model.graph), model.graph.node, strict=True)
        if name in names
    ]
    detail = f"{measured}; {len(nodes)} nodes kept in float32 for their range"
    if nodes:
        detail += f" (beyond {BOUND:.0f}): {_first_names([f'{operator} {name}' for name, operator in nodes])}"
    return RangeAudit(tuple(name for name, _ in nodes), detail)


def _largest(model: onnx.ModelProto, ranges: Ranges) -> str:
    """The largest activation and the largest value inside a fused operator, each with its node."""
    activations = heavy_tensors(model.graph)
    made = {
        f"{node.op_type} {name}": max(ranges.tensors.get(tensor, 0.0) for tensor in node.output)
        for name, node in zip(node_names(model.graph), model.graph.node, strict=True)
        if activations.intersection(node.output)
    }
    operators = {name: node.op_type for name, node in zip(node_names(model.graph), model.graph.node, strict=True)}
    inside = {f"{operators[name]} {name}": most for name, most in ranges.inside.items()}
    largest = [
        f"{label} {max(values.values()):.3g} ({max(values, key=lambda name: values[name])})"
        for label, values in (("largest activation", made), ("largest value inside a fused operator", inside))
        if values
    ]
    return ", ".join(largest) or "no activation"


def _first_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _evenly_spread(calibration: Sequence[Mapping[str, NDArray[Any]]], count: int) -> list[Mapping[str, NDArray[Any]]]:
    """Pairs chosen evenly from the shortest to the longest, the same ones every time."""
    ordered = sorted(calibration, key=lambda feed: max(array.size for array in feed.values()))
    indices = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int))
    return [ordered[index] for index in indices]
