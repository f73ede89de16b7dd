"""Makes graphs for packed batches: pairs of any lengths in one batch, without padding between them.

Only attention combines different tokens. So the tokens of all pairs of a batch are concatenated without padding, and
products, norms and activations work on `[1, tokens, hidden]` unchanged. Attention is computed pair by pair: its node is
copied once per slot, and a packed batch has `PACKED_ROWS` slots of one pair each; an unused slot gets no tokens. If all
pairs have the same length, one attention node takes them at once. Either way the arithmetic of a pair is bitwise the
same whatever else is in the batch, because each row of an int8 product and each norm is computed separately.

The graph's inputs are padded, so that embeddings and positions are computed as the exporter wrote them. Padding is
dropped from the hidden states that the first layer reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from crossrank.export.graph.editing import NodeBuilder
from crossrank.export.graph.shapes import SEQUENCE, probe_shapes
from crossrank.export.graph.tools import GraphView, opset_of, reads, remove_dead, replace
from crossrank.export.passes.base import PassResult
from crossrank.export.passes.pack.node_rules import TOKENS_RANK, PackingRules
from crossrank.export.passes.pack.per_pair_branches import PairSlots, equal_lengths_branch, slots_branch, with_inputs
from crossrank.models.manifest import PACKED_ROWS, PassRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "pack"

_MASK = "attention_mask"
_FIRST_OPSET = 13  # Split, Squeeze, Unsqueeze and ReduceSum take sizes and axes as inputs from here on


class _UnknownNodeError(Exception):
    """The graph has a node or tensor that is not known to work in packed batches; the message says which."""


def pack_batches(model: onnx.ModelProto) -> PassResult:
    """Make a graph whose batches hold pairs of any lengths, without padding between them.

    Args:
        model: a graph for pairs of one length, without a mask, whose attention is `MultiHeadAttention`; not changed.

    Returns:
        A graph that takes right-padded pairs and their mask: any number of one length, or at most `PACKED_ROWS` of
        several lengths. Or `model` itself, with the reason, if it has something that is not recognised.
    """
    try:
        packed = _Packer(model).pack()
    except _UnknownNodeError as reason:
        return PassResult(model, PassRecord(name=NAME, changed=False, detail=str(reason)))
    detail = f"up to {PACKED_ROWS} pairs of several lengths a run; no padding from {packed.cut} on"
    return PassResult(packed.model, PassRecord(name=NAME, changed=True, detail=detail))


@dataclass(frozen=True)
class _Packed:
    model: onnx.ModelProto
    cut: str


@dataclass
class _Kinds:
    """What the tensors after the cut hold.

    Attributes:
        tokens: [1, tokens, channels], the tokens of all pairs.
        pairs: [pairs, ...], without an axis of tokens.
        per_pair: computed for each pair separately, inside the region that is being collected.
    """

    tokens: set[str] = field(default_factory=set)
    pairs: set[str] = field(default_factory=set)
    per_pair: set[str] = field(default_factory=set)


class _Packer:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        if opset_of(model) < _FIRST_OPSET:
            raise _UnknownNodeError(f"operator set {opset_of(model)}: {_FIRST_OPSET} or later expected")
        if _MASK in {value.name for value in model.graph.input}:
            raise _UnknownNodeError("the graph reads its mask")
        self.view = GraphView(model.graph)
        self.nodes = list(self.model.graph.node)
        self.computed = _depending_on(self.view.inputs, self.nodes)
        self.rules = PackingRules(self.view, probe_shapes(model), self.computed)
        self.kinds = _Kinds()
        self.build = NodeBuilder()
        self.renamed: dict[str, str] = {}
        self.region: list[onnx.NodeProto] = []

    def pack(self) -> _Packed:
        """Rewrite all nodes after the cut."""
        index, cut = self._cut()
        names = {name for node in self.nodes for name in (*node.input, *node.output)} | set(self.view.inputs)
        if _MASK in names:
            raise _UnknownNodeError(f"a tensor called {_MASK!r}")
        before, after = self.nodes[: index + 1], self.nodes[index + 1 :]
        self._drop_padding(cut)
        for node in after:
            self._rewrite(node)
        unpacked = self.view.outputs - self.kinds.pairs
        if unpacked:
            raise _UnknownNodeError(f"output {min(unpacked)} is no score of a pair")
        graph = self.model.graph
        replace(graph.node, [*before, *self.build.nodes])
        graph.initializer.extend(self.build.initializers())
        kind = next(value for value in graph.input if value.name == "input_ids").type.tensor_type.elem_type
        graph.input.insert(1, helper.make_tensor_value_info(_MASK, kind, ["batch_size", "sequence_length"]))
        del graph.value_info[:]
        remove_dead(graph)
        return _Packed(self.model, cut)

    def _cut(self) -> tuple[int, str]:
        """Index and output of the last node before attention after which only its hidden states are still read."""
        attention = [index for index, node in enumerate(self.nodes) if self.rules.is_attention(node)]
        if not attention:
            raise _UnknownNodeError("no attention without a mask on its own node")
        last_use: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            last_use.update(dict.fromkeys(reads(node), index))
        for position in range(attention[0] - 1, -1, -1):
            made = [name for node in self.nodes[: position + 1] for name in node.output if name in self.computed]
            needed = [name for name in (*self.view.inputs, *made) if last_use.get(name, -1) > position]
            if len(needed) == 1 and self.rules.is_hidden(needed[0]):
                return position, needed[0]
        raise _UnknownNodeError("hidden states are not all that the layers read")

    def _drop_padding(self, hidden: str) -> None:
        """Add the nodes that compute which tokens belong to which pair, and the hidden states without padding."""
        rows = PACKED_ROWS
        flat = self._add("Reshape", [_MASK, self._constant("flat", [-1])], "mask")
        nonzero = self._add("NonZero", [flat], "nonzero")
        index = self._add("Squeeze", [nonzero, self._constant("first_axis", [0])], "index")
        merged = self._add("Flatten", [hidden], "merged", axis=2)
        tokens = self._add("Gather", [merged, index], "tokens", axis=0)
        self.renamed[hidden] = self._add("Unsqueeze", [tokens, self._constant("first_axis", [0])], "hidden")
        mask_int64 = self._add("Cast", [_MASK], "mask64", to=onnx.TensorProto.INT64)
        self.lengths = self._add("ReduceSum", [mask_int64, self._constant("last_axis", [1])], "lengths", keepdims=0)
        filled = self._add("Concat", [self.lengths, self._constant("no_tokens", [0] * rows)], "filled", axis=0)
        bounds = [self._constant(name, [value]) for name, value in (("zero", 0), ("rows", rows))]
        self.slot_lengths = self._add("Slice", [filled, *bounds], "lengths_by_copy")
        ends = self._add("CumSum", [self.lengths, self._constant("zero_axis", 0)], "ends")
        self.starts = self._add("Sub", [ends, self.lengths], "starts")
        self.pair_count = self._add("Shape", [self.lengths], "count")
        last = self._add("Sub", [self.pair_count, self._constant("one", [1])], "last")
        # An unused slot reads the row of the last pair, but none of its tokens.
        self.slot_pairs = self._add("Min", [self._constant("every_place", list(range(rows))), last], "rows")
        size = self._add("Shape", [_MASK], "size")
        self.equal_shape = self._add("Concat", [size, self._constant("the_rest", [-1])], "even_shape", axis=0)
        real_tokens = self._add("Shape", [index], "found")
        self.equal_lengths = self._add("Equal", [real_tokens, self._add("Shape", [flat], "all")], "even")
        self.kinds.tokens.add(hidden)

    def _rewrite(self, node: onnx.NodeProto) -> None:
        """Append what a node becomes in the packed graph."""
        read = {name for name in reads(node) if name in self.computed}
        kinds = self.kinds
        if read <= kinds.pairs:
            self.build.nodes.append(node)
            kinds.pairs.update(name for name in node.output if name and read)
        elif read <= kinds.tokens and self.rules.is_token_wise(node):
            self.build.nodes.append(with_inputs(node, node.input, self.renamed))
            kinds.tokens.add(node.output[0])
        elif read <= kinds.tokens and self.rules.takes_first_token(node):
            self._gather_first_tokens(node)
        elif read <= kinds.tokens and self.rules.is_attention(node):
            self.build.nodes.append(self._by_pair([node], joined_axis=1))
            kinds.tokens.add(node.output[0])
        elif read <= kinds.tokens | kinds.pairs | kinds.per_pair and self.rules.works_by_pair(node):
            self.region.append(node)
            output = node.output[0]
            if SEQUENCE in self.rules.shape(output):
                kinds.per_pair.add(output)
                return
            self.build.nodes.append(self._by_pair(self.region, joined_axis=0))
            self.region = []
            kinds.per_pair.clear()  # nothing outside the region can read these
            kinds.pairs.add(output)
        else:
            raise _UnknownNodeError(f"{node.op_type} {node.name} is not known to work pair by pair")

    def _by_pair(self, nodes: list[onnx.NodeProto], *, joined_axis: int) -> onnx.NodeProto:
        """An If node: some nodes unchanged for pairs of one length, else one copy of them for every slot."""
        slots = PairSlots(
            equal_shape=self.equal_shape,
            count=PACKED_ROWS,
            lengths=self.slot_lengths,
            pair_of=self.slot_pairs,
            pair_count=self.pair_count,
            tokens=frozenset(self.kinds.tokens),
            pairs=frozenset(self.kinds.pairs),
        )
        output = nodes[-1].output[0]
        last = self.rules.shape(output)[-1]
        channels = last.factor if joined_axis == 1 and last is not None else None
        return helper.make_node(
            "If",
            [self.equal_lengths],
            [output],
            name=f"{output}/by_pair",
            then_branch=equal_lengths_branch(nodes, self.renamed, slots, channels=channels),
            else_branch=slots_branch(nodes, self.renamed, slots, joined_axis=joined_axis),
        )

    def _gather_first_tokens(self, node: onnx.NodeProto) -> None:
        source = self.renamed.get(node.input[0], node.input[0])
        output = node.output[0]
        row = self._add("Squeeze", [source, self._constant("first_axis", [0])], f"{output}/tokens")
        if len(self.rules.shape(output)) == TOKENS_RANK:
            first = self._add("Gather", [row, self.starts], f"{output}/first", axis=0)
            self._append(output, "Unsqueeze", [first, self._constant("last_axis", [1])])
        else:
            self._append(output, "Gather", [row, self.starts], axis=0)
        self.kinds.pairs.add(output)

    def _constant(self, name: str, value: list[int] | int) -> str:
        """Name of an int64 initializer."""
        return self.build.tensor(f"{NAME}/constant/{name}", value, np.int64)

    def _add(self, op_type: str, inputs: list[str], name: str, **values: int) -> str:
        return self._append(f"{NAME}/{name}", op_type, inputs, **values)

    def _append(self, output: str, op_type: str, inputs: list[str], **values: Any) -> str:
        return self.build.add(op_type, inputs, output, name=f"{output}/{op_type}", **values)


def _depending_on(inputs: Iterable[str], nodes: Iterable[onnx.NodeProto]) -> set[str]:
    dependent = set(inputs)
    for node in nodes:
        if dependent.intersection(reads(node)):
            dependent.update(name for name in node.output if name)
    return dependent
