"""Exact pruning of the last layer: the head reads one token of it, so only that one is computed.

The pass starts where the head selects token 0 and walks from node to producer through the last layer. Every operator on
the way is replaced by a copy that computes that token alone, until the walk reaches tensors that are needed for all
tokens: the keys and values of the last attention, and with them the layer's input. Queries, attention output,
feed-forward and norms of the last layer are then computed for one token only, and scores do not change. After that the
projections of keys and values are absorbed where possible (see `absorb_projections`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.export.graph.shapes import SEQUENCE, Shape, probe_shapes
from crossrank.export.graph.tools import (
    GraphView,
    attributes,
    heavy_tensors,
    opset_of,
    reads,
    skeleton,
)
from crossrank.export.passes.base import PassResult
from crossrank.export.passes.prune.absorb_projections import absorb_last_projections
from crossrank.export.passes.prune.macs import multiply_accumulates
from crossrank.export.passes.prune.node_rules import Restriction, UnrecognisedError, restrict
from crossrank.export.passes.prune.rewrite import Rewriter
from crossrank.export.passes.prune.split_qkv import split_last_qkv
from crossrank.models.manifest import PassRecord

if TYPE_CHECKING:
    import onnx

NAME = "prune-last-layer"

# Before opset 13, Softmax means something else, and Squeeze and Unsqueeze take their axes as attributes.
_OLDEST_OPSET = 13
_TOKENS_COUNTED = 128


def prune_last_layer(model: onnx.ModelProto) -> PassResult:
    """Compute the last layer for the one token that the classification head reads.

    Works on the graph as exported, before attention is fused. A graph whose head reads more than token 0, or
    whose last layer has an operator without a rule, is returned unchanged with the reason in the record.

    Args:
        model: graph with integer inputs [batch, sequence]; not changed.

    Returns:
        The pruned graph; its record gives the multiply-accumulates removed at 128 tokens.
    """
    import onnx

    if opset_of(model) < _OLDEST_OPSET:
        return _unchanged(model, f"opset {opset_of(model)} is older than {_OLDEST_OPSET}")
    try:
        pruned = absorb_last_projections(_prune(split_last_qkv(model)))
    except UnrecognisedError as reason:
        return _unchanged(model, str(reason))
    light = skeleton(pruned)
    onnx.checker.check_model(light)
    onnx.shape_inference.infer_shapes(light, strict_mode=True)
    before = multiply_accumulates(model, sequence=_TOKENS_COUNTED)
    after = multiply_accumulates(pruned, sequence=_TOKENS_COUNTED)
    if after >= before:
        return _unchanged(model, "nothing to gain: no operation would be removed")
    detail = (
        f"{before - after} of {before} multiply-accumulates removed at {_TOKENS_COUNTED} tokens "
        f"({100 * (before - after) / before:.1f}%)"
    )
    return PassResult(pruned, PassRecord(name=NAME, changed=True, detail=detail))


def _unchanged(model: onnx.ModelProto, reason: str) -> PassResult:
    return PassResult(model, PassRecord(name=NAME, changed=False, detail=reason))


def _prune(model: onnx.ModelProto) -> onnx.ModelProto:
    walk = _Walk(model)
    walk.run()
    if not walk.heads:
        raise UnrecognisedError("no selection of token 0 found before the classification head")
    if not walk.through_attention:
        raise UnrecognisedError("the walk up from the head met no attention")
    rewriter = Rewriter(model, walk.shapes, walk.view)
    for name, axis in walk.cuts:
        rewriter.cut(name, axis)
    for (name, axis), restriction in walk.restrictions.items():
        rewriter.restrict(name, axis, restriction)
    for head in walk.heads:
        rewriter.feed_head(head)
    for node in walk.shape_nodes:
        if node.input[0] not in walk.whole:
            rewriter.state_shape(node)
    return rewriter.finish()


class _Walk:
    """Visits the nodes from last to first and decides what is needed of every tensor.

    A tensor is needed whole (`whole`), or restricted to index 0 of an axis (`_needed`), or both: then the
    restricted form is sliced from the whole one instead of being computed separately.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.view = GraphView(model.graph)
        self.shapes = probe_shapes(model)
        self.whole: set[str] = {value.name for value in model.graph.output}
        self.heads: list[onnx.NodeProto] = []
        self.shape_nodes: list[onnx.NodeProto] = []
        self.cuts: list[tuple[str, int]] = []
        self.restrictions: dict[tuple[str, int], Restriction] = {}
        self.through_attention = False
        self._needed: dict[str, set[int]] = {}
        self._heavy = heavy_tensors(model.graph)

    def run(self) -> None:
        for node in reversed(self.graph.node):
            if self.whole.intersection(node.output):
                self._need_inputs(node)
            for name in node.output:
                for axis in sorted(self._needed.get(name, ())):
                    self._satisfy(node, name, axis)
        for value in self.graph.input:
            self.cuts.extend((value.name, axis) for axis in sorted(self._needed.get(value.name, ())))

    def _need_inputs(self, node: onnx.NodeProto) -> None:
        """Note what a node needs that is computed unchanged."""
        if self._is_head(node):
            self.heads.append(node)
            self._need(node.input[0], 1)
            self.whole.update(node.input[1:])
        elif node.op_type == "Shape" and None not in self.shapes.get(node.input[0], (None,)):
            # A shape needs no values: it can be computed from the shapes of the graph's inputs.
            self.shape_nodes.append(node)
        else:
            self.whole.update(reads(node))

    def _is_head(self, node: onnx.NodeProto) -> bool:
        """Whether a node takes token 0 out of hidden states [batch, sequence, hidden]."""
        if node.op_type not in ("Gather", "Slice") or node.input[0] not in self._heavy:
            return False
        shape = self.shapes.get(node.input[0], ())
        if len(shape) != 3 or shape[1] != SEQUENCE:  # noqa: PLR2004
            return False
        if node.op_type == "Gather":
            index = self.view.constant(node.input[1])
            return attributes(node).get("axis", 0) == 1 and index is not None and not index.any()
        starts, ends, axes = (self.view.constant(name) for name in [*node.input, "", ""][1:4])
        if starts is None or ends is None or axes is None:
            return False
        # What a Slice does to the other axes does not matter here.
        bounds = {
            int(axis) % 3: (int(start), int(end))
            for axis, start, end in zip(axes.flat, starts.flat, ends.flat, strict=True)
        }
        return bounds.get(1) == (0, 1)

    def _need(self, name: str, axis: int) -> None:
        self._needed.setdefault(name, set()).add(axis)

    def _satisfy(self, node: onnx.NodeProto, name: str, axis: int) -> None:
        """Decide how the restricted form of an output is made: by a restricted copy of its node, or by a Slice."""
        computed = bool(self.whole.intersection(node.output))
        if computed and (name in self._heavy or not self._is_quadratic(name)):
            self._cut(node, name, axis)
            return
        try:
            restriction = restrict(node, name, axis, self.shapes, self.view)
        except UnrecognisedError as reason:
            if name in self._heavy:
                message = f"the walk up from the head stopped at {node.op_type} {node.name!r}: {reason}"
                raise UnrecognisedError(message) from reason
            # Masks and positions are cheap to compute whole.
            self._cut(node, name, axis)
            return
        self.restrictions[name, axis] = restriction
        for source, source_axis in zip(node.input, restriction.axes, strict=True):
            if source_axis is not None:
                self._need(source, source_axis)
            elif source and not (restriction.target is not None and source == node.input[1]):
                self.whole.add(source)
        if node.op_type in ("MatMul", "FusedMatMul") and not any(
            self.view.is_constant(source) for source in node.input
        ):
            self.through_attention = True

    def _cut(self, node: onnx.NodeProto, name: str, axis: int) -> None:
        self.cuts.append((name, axis))
        self.whole.add(name)
        self._need_inputs(node)

    def _is_quadratic(self, name: str) -> bool:
        """Whether a tensor grows with the square of the length, as masks over queries and keys do."""
        shape: Shape = self.shapes.get(name, ())
        return sum(dim.sequence_power for dim in shape if dim is not None) > 1
