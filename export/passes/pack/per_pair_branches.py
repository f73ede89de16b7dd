"""The two branches in which a packed graph computes something for each pair separately.

Pairs of one length (or a single pair) go through the original nodes, which were made for them. Pairs of several lengths
go through one copy of the nodes per slot of the packed batch; an unused slot gets no tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from crossrank.export.graph.editing import NodeBuilder
from crossrank.export.graph.tools import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class PairSlots:
    """The slots of a packed batch, each for one pair, and the tensors that say what is in them.

    Attributes:
        equal_shape: name of the shape [pairs, length, -1] of the tokens of pairs of one length; int64 [3].
        count: number of slots.
        lengths: name of the number of tokens in each slot, int64 [count]; 0 in an unused slot.
        pair_of: name of the index of the pair in each slot, int64 [count]; any valid index in an unused slot.
        pair_count: name of the number of pairs, int64 [1].
        tokens: names of the tensors [1, tokens, channels] outside the branches.
        pairs: names of the tensors [pairs, ...] outside the branches.
    """

    equal_shape: str
    count: int
    lengths: str
    pair_of: str
    pair_count: str
    tokens: frozenset[str]
    pairs: frozenset[str]


def equal_lengths_branch(
    nodes: Sequence[onnx.NodeProto], renamed: Mapping[str, str], slots: PairSlots, *, channels: int | None
) -> onnx.GraphProto:
    """The original nodes, for pairs of one length.

    Args:
        nodes: nodes of one output each, in graph order.
        renamed: original tensor name to its name in the packed graph, for tensors made outside.
        slots: the slots of the batch.
        channels: channels of the last output if it holds tokens, which come back as [1, tokens, channels]; else None.
    """
    build = NodeBuilder()
    output = nodes[-1].output[0]
    by_pair: dict[str, str] = {}
    for name in dict.fromkeys(name for node in nodes for name in node.input if name in slots.tokens):
        inputs = [renamed.get(name, name), slots.equal_shape]
        by_pair[name] = build.add("Reshape", inputs, f"{output}/{name}/even")
    build.nodes += _suffixed(nodes, "even", {**renamed, **by_pair})
    result = f"{output}/even"
    if channels is None:
        return _branch(build, result)
    shape = build.tensor(f"{output}/flat_shape", [1, -1, channels], np.int64)
    return _branch(build, build.add("Reshape", [result, shape], f"{output}/flat"))


def slots_branch(
    nodes: Sequence[onnx.NodeProto], renamed: Mapping[str, str], slots: PairSlots, *, joined_axis: int
) -> onnx.GraphProto:
    """One copy of the nodes per slot, and a concatenation of their last outputs.

    Args:
        nodes: nodes of one output each, in graph order.
        renamed: original tensor name to its name in the packed graph, for tensors made outside.
        slots: the slots of the batch.
        joined_axis: axis along which the outputs of the slots are concatenated: 1 for tokens, 0 for pairs.
    """
    build = NodeBuilder()
    inside = {node.output[0] for node in nodes}
    output = nodes[-1].output[0]
    parts: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for node in nodes for name in node.input if name not in inside):
        outside = renamed.get(name, name)
        pieces = [f"{output}/{name}/{index}" for index in range(slots.count)]
        split = f"{output}/{name}/places"
        if name in slots.tokens:
            build.nodes.append(helper.make_node("Split", [outside, slots.lengths], pieces, name=split, axis=1))
        elif name in slots.pairs:
            sizes = build.tensor(f"{output}/{name}/one_each", np.ones(slots.count), np.int64)
            row = build.add("Gather", [outside, slots.pair_of], f"{output}/{name}/rows", axis=0)
            build.nodes.append(helper.make_node("Split", [row, sizes], pieces, name=split, axis=0))
        else:
            continue
        parts[name] = pieces
    for index in range(slots.count):
        slot_parts = {name: pieces[index] for name, pieces in parts.items()}
        build.nodes += _suffixed(nodes, str(index), {**renamed, **slot_parts})
    results = [f"{output}/{index}" for index in range(slots.count)]
    joined = build.add("Concat", results, f"{output}/joined", axis=joined_axis)
    if joined_axis == 0:
        zero = build.tensor(f"{output}/zero", [0], np.int64)
        joined = build.add("Slice", [joined, zero, slots.pair_count], f"{output}/found")
    return _branch(build, joined)


def with_inputs(node: onnx.NodeProto, inputs: Iterable[str], renamed: Mapping[str, str]) -> onnx.NodeProto:
    """A copy of a node with other inputs, which are renamed where `renamed` says so."""
    new = onnx.NodeProto()
    new.CopyFrom(node)
    replace(new.input, [renamed.get(name, name) for name in inputs])
    return new


def _suffixed(nodes: Sequence[onnx.NodeProto], suffix: str, renamed: Mapping[str, str]) -> list[onnx.NodeProto]:
    """Copies of nodes whose names and outputs end with a suffix."""
    new_names = {node.output[0]: f"{node.output[0]}/{suffix}" for node in nodes}
    copies = []
    for node in nodes:
        copied = with_inputs(node, node.input, {**renamed, **new_names})
        copied.name = f"{node.name}/{suffix}"
        replace(copied.output, [new_names[node.output[0]]])
        copies.append(copied)
    return copies


def _branch(built: NodeBuilder, output: str) -> onnx.GraphProto:
    declared = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    return helper.make_graph(built.nodes, output, [], [declared], built.initializers())
