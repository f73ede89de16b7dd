"""Lets pairs of any lengths share a run without padding.

Nothing but attention looks from one token to another. So the tokens of all pairs of a run, padding left out, stand in
one row behind each other: products, norms and activations take `[1, tokens, hidden]` and see no difference. Attention
alone is done pair by pair, each on tokens of its own, in as many copies of its node as a run may hold pairs; copies
that a run does not need get no tokens. Where all pairs of a run have one length, attention takes them at once. A pair's
own arithmetic is then the same in every company, bit by bit, because each row of an int8 product and each norm is
worked out by itself.

Padded inputs come in, so that embeddings and positions are made as the exporter wrote them; their padding is dropped
where the hidden states of the first layer begin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from crossrank.export.graph.shapes import SEQUENCE, probe_shapes
from crossrank.export.graph.tools import GraphView, opset_of, reads, remove_dead, replace
from crossrank.export.passes.base import PassResult
from crossrank.export.passes.pack.pair_branches import Places, even_branch, places_branch, with_inputs
from crossrank.export.passes.pack.pair_rules import TOKENS_RANK, PairRules
from crossrank.models.manifest import PACKED_ROWS, PassRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "pack"

_MASK = "attention_mask"
_FIRST_OPSET = 13  # Split, Squeeze, Unsqueeze and ReduceSum take sizes and axes as inputs from here on


class _UnknownNodeError(Exception):
    """The graph has something that is not known to work on packed tokens; the message says what."""


def pack_pairs(model: onnx.ModelProto) -> PassResult:
    """Make a graph whose runs hold pairs of any lengths, without padding between them.

    Args:
        model: a graph for pairs of one length, without a mask, whose attention is `MultiHeadAttention`; not changed.

    Returns:
        A graph that takes right-padded pairs and their mask: any number of one length, or at most `PACKED_ROWS` of
        several lengths. Or `model` itself, with the reason, where it has something that is not recognised.
    """
    try:
        packed = _Packer(model).packed()
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
    """What tensors behind the cut hold.

    Attributes:
        tokens: [1, tokens, channels], the tokens of all pairs.
        pairs: [pairs, ...], nothing of the sequence left.
        apart: of each pair its own, inside the region that is being collected.
    """

    tokens: set[str] = field(default_factory=set)
    pairs: set[str] = field(default_factory=set)
    apart: set[str] = field(default_factory=set)


class _Packer:
    """One graph's rewriting."""

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
        self.rules = PairRules(self.view, probe_shapes(model), self.computed)
        self.kinds = _Kinds()
        self.made: list[onnx.NodeProto] = []
        self.renamed: dict[str, str] = {}
        self.region: list[onnx.NodeProto] = []

    def packed(self) -> _Packed:
        """Rewrite everything behind the cut."""
        position, cut = self._cut()
        taken = {name for node in self.nodes for name in (*node.input, *node.output)} | set(self.view.inputs)
        if _MASK in taken:
            raise _UnknownNodeError(f"a tensor called {_MASK!r}")
        before, after = self.nodes[: position + 1], self.nodes[position + 1 :]
        self._drop_padding(cut)
        for node in after:
            self._rewrite(node)
        left_over = self.view.outputs - self.kinds.pairs
        if left_over:
            raise _UnknownNodeError(f"output {min(left_over)} is no score of a pair")
        graph = self.model.graph
        replace(graph.node, [*before, *self.made])
        kind = next(value for value in graph.input if value.name == "input_ids").type.tensor_type.elem_type
        graph.input.insert(1, helper.make_tensor_value_info(_MASK, kind, ["batch_size", "sequence_length"]))
        del graph.value_info[:]
        remove_dead(graph)
        return _Packed(self.model, cut)

    def _cut(self) -> tuple[int, str]:
        """The last node before the first attention behind which hidden states are all that is still needed."""
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
        """Nodes that tell which token belongs to whom, and the hidden states without padding."""
        rows = PACKED_ROWS
        flat = self._add("Reshape", [_MASK, self._whole("flat", [-1])], "mask")
        index = self._add("Squeeze", [self._add("NonZero", [flat], "nonzero"), self._whole("first_axis", [0])], "index")
        merged = self._add("Flatten", [hidden], "merged", axis=2)
        tokens = self._add("Gather", [merged, index], "tokens", axis=0)
        self.renamed[hidden] = self._add("Unsqueeze", [tokens, self._whole("first_axis", [0])], "hidden")
        all_cores = self._add("Cast", [_MASK], "mask64", to=onnx.TensorProto.INT64)
        self.lengths = self._add("ReduceSum", [all_cores, self._whole("last_axis", [1])], "lengths", keepdims=0)
        filled = self._add("Concat", [self.lengths, self._whole("no_tokens", [0] * rows)], "filled", axis=0)
        bounds = [self._whole(name, [value]) for name, value in (("zero", 0), ("rows", rows))]
        self.by_copy = self._add("Slice", [filled, *bounds], "lengths_by_copy")
        ends = self._add("CumSum", [self.lengths, self._whole("zero_axis", 0)], "ends")
        self.starts = self._add("Sub", [ends, self.lengths], "starts")
        self.count = self._add("Shape", [self.lengths], "count")
        last = self._add("Sub", [self.count, self._whole("one", [1])], "last")
        # Places without a pair of their own work on the last one's row, and on none of its tokens.
        self.rows = self._add("Min", [self._whole("every_place", list(range(rows))), last], "rows")
        size = self._add("Shape", [_MASK], "size")
        self.even_shape = self._add("Concat", [size, self._whole("the_rest", [-1])], "even_shape", axis=0)
        found = self._add("Shape", [index], "found")
        self.even = self._add("Equal", [found, self._add("Shape", [flat], "all")], "even")
        self.kinds.tokens.add(hidden)

    def _rewrite(self, node: onnx.NodeProto) -> None:
        """Put what a node becomes behind what was made so far."""
        read = {name for name in reads(node) if name in self.computed}
        kinds = self.kinds
        if read <= kinds.pairs:
            self.made.append(node)
            kinds.pairs.update(name for name in node.output if name and read)
        elif read <= kinds.tokens and self.rules.is_token_wise(node):
            self.made.append(with_inputs(node, node.input, self.renamed))
            kinds.tokens.add(node.output[0])
        elif read <= kinds.tokens and self.rules.takes_first_token(node):
            self._gather_first_tokens(node)
        elif read <= kinds.tokens and self.rules.is_attention(node):
            self.made.append(self._by_pair([node], joined_axis=1))
            kinds.tokens.add(node.output[0])
        elif read <= kinds.tokens | kinds.pairs | kinds.apart and self.rules.works_by_pair(node):
            self.region.append(node)
            output = node.output[0]
            if SEQUENCE in self.rules.shape(output):
                kinds.apart.add(output)
                return
            self.made.append(self._by_pair(self.region, joined_axis=0))
            self.region = []
            kinds.apart.clear()  # what else reads it has no place
            kinds.pairs.add(output)
        else:
            raise _UnknownNodeError(f"{node.op_type} {node.name} is not known to work pair by pair")

    def _by_pair(self, nodes: list[onnx.NodeProto], *, joined_axis: int) -> onnx.NodeProto:
        """Nodes that work on each pair by itself: as they are for pairs of one length, else once for every place."""
        places = Places(
            even_shape=self.even_shape,
            rows=PACKED_ROWS,
            lengths=self.by_copy,
            pair_of=self.rows,
            count=self.count,
            tokens=frozenset(self.kinds.tokens),
            pairs=frozenset(self.kinds.pairs),
        )
        output = nodes[-1].output[0]
        last = self.rules.shape(output)[-1]
        channels = last.factor if joined_axis == 1 and last is not None else None
        return helper.make_node(
            "If",
            [self.even],
            [output],
            name=f"{output}/by_pair",
            then_branch=even_branch(nodes, self.renamed, places, channels=channels),
            else_branch=places_branch(nodes, self.renamed, places, joined_axis=joined_axis),
        )

    def _gather_first_tokens(self, node: onnx.NodeProto) -> None:
        source = self.renamed.get(node.input[0], node.input[0])
        output = node.output[0]
        row = self._add("Squeeze", [source, self._whole("first_axis", [0])], f"{output}/tokens")
        if len(self.rules.shape(output)) == TOKENS_RANK:
            first = self._add("Gather", [row, self.starts], f"{output}/first", axis=0)
            self._put(output, "Unsqueeze", [first, self._whole("last_axis", [1])])
        else:
            self._put(output, "Gather", [row, self.starts], axis=0)
        self.kinds.pairs.add(output)

    def _whole(self, name: str, value: list[int] | int) -> str:
        """An initializer of whole numbers, made once."""
        full = f"{NAME}/constant/{name}"
        if full not in {item.name for item in self.model.graph.initializer}:
            self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.int64), full))
        return full

    def _add(self, op_type: str, inputs: list[str], name: str, **values: int) -> str:
        full = f"{NAME}/{name}"
        self._put(full, op_type, inputs, **values)
        return full

    def _put(self, output: str, op_type: str, inputs: list[str], **values: int) -> None:
        self.made.append(helper.make_node(op_type, inputs, [output], name=f"{output}/{op_type}", **values))


def _depending_on(inputs: Iterable[str], nodes: Iterable[onnx.NodeProto]) -> set[str]:
    found = set(inputs)
    for node in nodes:
        if found.intersection(reads(node)):
            found.update(name for name in node.output if name)
    return found
