"""The two ways of a packed graph to do something for each pair by itself.

Pairs of one length, a lone one among them, are what the graph was made for: its nodes stay as they are. For pairs of
several lengths each node is there once for every place that a run has; a place without a pair gets no tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from crossrank.export.graph.tools import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Places:
    """Which tokens and rows belong to each place of a run.

    Attributes:
        even_shape: name of the shape of tokens where pairs have one length: pairs, their length, -1; int64 [3].
        rows: places.
        lengths: name of the tokens that each place has, int64 [rows], 0 where it has no pair.
        pair_of: name of the pair that each place has, int64 [rows]; some pair where it has none.
        count: name of the number of pairs, int64 [1].
        tokens: tensors [1, tokens, channels] of the graph outside.
        pairs: tensors [pairs, ...] of the graph outside.
    """

    even_shape: str
    rows: int
    lengths: str
    pair_of: str
    count: str
    tokens: frozenset[str]
    pairs: frozenset[str]


def even_branch(
    nodes: Sequence[onnx.NodeProto], renamed: Mapping[str, str], indices: Places, *, channels: int | None
) -> onnx.GraphProto:
    """The nodes as they are, on pairs of one length.

    Args:
        nodes: with one output each, in their order.
        renamed: what tensors from outside are called in the packed graph.
        indices: of the run.
        channels: of the last one's output where that has tokens, which it gives as [1, tokens, channels]; else None.
    """
    made: list[onnx.NodeProto] = []
    output = nodes[-1].output[0]
    by_pair: dict[str, str] = {}
    for name in dict.fromkeys(name for node in nodes for name in node.input if name in indices.tokens):
        by_pair[name] = f"{output}/{name}/even"
        inputs = [renamed.get(name, name), indices.even_shape]
        made.append(helper.make_node("Reshape", inputs, [by_pair[name]], name=by_pair[name]))
    made += _suffixed(nodes, "even", {**renamed, **by_pair})
    result = f"{output}/even"
    if channels is None:
        return _branch(made, result)
    shape, flat = f"{output}/flat_shape", f"{output}/flat"
    made.append(helper.make_node("Reshape", [result, shape], [flat], name=flat))
    return _branch(made, flat, [numpy_helper.from_array(np.asarray([1, -1, channels], np.int64), shape)])


def places_branch(
    nodes: Sequence[onnx.NodeProto], renamed: Mapping[str, str], indices: Places, *, joined_axis: int
) -> onnx.GraphProto:
    """The nodes once for every place; what the last one makes is put together again.

    Args:
        nodes: with one output each, in their order.
        renamed: what tensors from outside are called in the packed graph.
        indices: of the run.
        joined_axis: along which the places' outputs are put together: 1 for tokens, 0 for pairs.
    """
    made: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    own = {node.output[0] for node in nodes}
    output = nodes[-1].output[0]
    parts: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for node in nodes for name in node.input if name not in own):
        outside = renamed.get(name, name)
        pieces = [f"{output}/{name}/{index}" for index in range(indices.rows)]
        split = f"{output}/{name}/places"
        if name in indices.tokens:
            made.append(helper.make_node("Split", [outside, indices.lengths], pieces, name=split, axis=1))
        elif name in indices.pairs:
            row, sizes = f"{output}/{name}/rows", f"{output}/{name}/one_each"
            constants.append(numpy_helper.from_array(np.ones(indices.rows, np.int64), sizes))
            made.append(helper.make_node("Gather", [outside, indices.pair_of], [row], name=row, axis=0))
            made.append(helper.make_node("Split", [row, sizes], pieces, name=split, axis=0))
        else:
            continue
        parts[name] = pieces
    for index in range(indices.rows):
        own_parts = {name: pieces[index] for name, pieces in parts.items()}
        made += _suffixed(nodes, str(index), {**renamed, **own_parts})
    results = [f"{output}/{index}" for index in range(indices.rows)]
    joined = f"{output}/joined"
    made.append(helper.make_node("Concat", results, [joined], name=joined, axis=joined_axis))
    if joined_axis == 0:
        zero, found = f"{output}/zero", f"{output}/found"
        constants.append(numpy_helper.from_array(np.zeros(1, np.int64), zero))
        made.append(helper.make_node("Slice", [joined, zero, indices.count], [found], name=found))
        joined = found
    return _branch(made, joined, constants)


def with_inputs(node: onnx.NodeProto, inputs: Iterable[str], renamed: Mapping[str, str]) -> onnx.NodeProto:
    """A copy of a node that reads other tensors."""
    new = onnx.NodeProto()
    new.CopyFrom(node)
    replace(new.input, [renamed.get(name, name) for name in inputs])
    return new


def _suffixed(nodes: Sequence[onnx.NodeProto], suffix: str, renamed: Mapping[str, str]) -> list[onnx.NodeProto]:
    """Copies of nodes whose outputs have names of their own."""
    own = {node.output[0]: f"{node.output[0]}/{suffix}" for node in nodes}
    copies = []
    for node in nodes:
        copied = with_inputs(node, node.input, {**renamed, **own})
        copied.name = f"{node.name}/{suffix}"
        replace(copied.output, [own[node.output[0]]])
        copies.append(copied)
    return copies


def _branch(
    nodes: Sequence[onnx.NodeProto], output: str, constants: Sequence[onnx.TensorProto] = ()
) -> onnx.GraphProto:
    declared = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    return helper.make_graph(nodes, output, [], [declared], constants)
