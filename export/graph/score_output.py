"""What the output of an ONNX file is: logits, or scores that went through an activation inside the graph.

An activation that is inside is taken off, so that the artifact has logits as every other and applies it once, at the
end. Where that cannot be done, the file is refused, or carried as it is if the caller states that its outputs are the
scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.graph.tools import GraphView, attributes, remove_dead

if TYPE_CHECKING:
    import onnx

ActivationInside = Literal["none", "sigmoid", "softmax", "other"]

# Nodes that give their first input in another shape or float type.
_RESHAPES = frozenset({"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_PICKS = frozenset({"Gather", "Slice"})
# Further ones whose first input has the values, whatever else they read.
_CARRY = frozenset({"Compress", "Expand", "GatherElements", "GatherND", "Pad", "Tile", "Trilu"})
_ELEMENTWISE = frozenset(
    {"Add", "Div", "Max", "Mean", "Min", "Mul", "Neg", "Reciprocal", "Sub", "Sum", "Sqrt", "Pow"}
    | {"QuantizeLinear", "DequantizeLinear", "Split", "Concat", "Transpose", "QLinearAdd", "QLinearConcat"}
    | {"QLinearMul", "QLinearReduceMean", "QLinearAveragePool", "QLinearGlobalAveragePool", "BiasAdd"}
    | {"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "AveragePool", "GlobalAveragePool"}
)
_PROBABILITIES = frozenset(
    {"BiasSoftmax", "HardSigmoid", "Hardmax", "LogSoftmax", "QLinearSigmoid", "QLinearSoftmax", "Sigmoid", "Softmax"}
)
_PRODUCTS = frozenset({"Gemm", "MatMul"})
# Where the way back from the output ends: what comes before a product or a norm belongs to the model.
_ENDS = frozenset(
    _PRODUCTS
    | {"Attention", "BatchNormalization", "BitLinear", "Constant", "ConstantOfShape", "Conv", "ConvInteger"}
    | {"ConvTranspose", "DynamicQuantizeLSTM", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "Einsum"}
    | {"EmbedLayerNormalization", "EyeLike", "FusedConv", "FusedGemm", "FusedMatMul", "FusedMatMulActivation", "GRU"}
    | {"GemmFloat8", "GroupNormalization", "GroupQueryAttention", "InstanceNormalization", "LSTM"}
    | {"LayerNormalization", "MatMulBnb4", "MatMulFpQ4", "MatMulInteger", "MatMulInteger16", "MatMulIntegerToFloat"}
    | {"MatMulNBits", "MeanVarianceNormalization", "MultiHeadAttention", "NhwcFusedConv", "PackedAttention"}
    | {"PackedMultiHeadAttention", "QAttention", "QEmbedLayerNormalization", "QGemm", "QLinearConv", "QLinearMatMul"}
    | {"RMSNormalization", "RNN", "Range", "Shape", "SimplifiedLayerNormalization", "Size", "SkipGroupNorm"}
    | {"SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "TransposeMatMul"}
)
_FEW_LABELS = 16
"""A product with a constant of no more rows weighs labels; the hidden states of a model are wider."""
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.ml"})
"""Domains whose operators are known; an operator of any other domain may compute anything."""


@dataclass(frozen=True)
class ScoreOutput:
    """A graph whose output is examined.

    Attributes:
        model: the graph, without the activation where that could be taken off.
        activation: what was inside: "sigmoid" and "softmax" were taken off, "other" was not.
        operator: the operator that was inside, such as "Tanh"; "" where there is none.
        picked: the column the file picks of its softmax; None where it picks none.
    """

    model: onnx.ModelProto
    activation: ActivationInside = "none"
    operator: str = ""
    picked: int | None = None


def examine_output(model: onnx.ModelProto) -> ScoreOutput:
    """Find out whether an activation is inside a graph, and remove it.

    Args:
        model: with one output. It is not changed; the result shares nothing with it where an activation was taken off.

    Raises:
        UnsupportedCheckpointError: the output is not computed from the inputs.
    """
    output = model.graph.output[0].name
    view = GraphView(model.graph)
    last, passed = _last_computation(view, output)
    if last is None:
        raise UnsupportedCheckpointError(f"the graph's output {output!r} is no computation, but a copy or a constant")
    operator = _activation_before_head(view, output)
    if operator is None:
        return ScoreOutput(model)
    taken_off = _without_activation(model, view, last, passed)
    if taken_off is None or _activation_before_head(GraphView(taken_off.model.graph), taken_off.output) is not None:
        return ScoreOutput(model, "other", operator)
    kind: ActivationInside = "sigmoid" if last.op_type == "Sigmoid" else "softmax"
    return ScoreOutput(taken_off.model, kind, last.op_type, taken_off.picked)


@dataclass(frozen=True)
class _TakenOff:
    model: onnx.ModelProto
    output: str
    picked: int | None = None


def _last_computation(view: GraphView, output: str) -> tuple[onnx.NodeProto | None, list[onnx.NodeProto]]:
    """The last node that computes, and those behind it that only reshape or pick, the last first."""
    passed: list[onnx.NodeProto] = []
    name = output
    while True:
        node = view.producers.get(name)
        if node is None or node.op_type == "Constant":
            return None, passed
        if node.op_type not in _RESHAPES | _PICKS:
            return node, passed
        passed.append(node)
        name = node.input[0]


def _activation_before_head(view: GraphView, output: str) -> str | None:
    """The first activation on the way back from the output to whatever product comes first.

    An operator that is not known here counts as one. Behind a product that weighs a few labels only those are looked
    for that make probabilities, since a head may have several layers and activations between them.
    """
    waiting, seen = [(output, False)], set()
    while waiting:
        name, weighed = waiting.pop(0)
        node = view.producers.get(name)
        if node is None or (name, weighed) in seen:
            continue
        seen.add((name, weighed))
        kind, hidden = str(node.op_type), _hidden_activation(node)
        if hidden:
            if not weighed:
                return hidden
        elif kind in _RESHAPES | _PICKS | _CARRY:
            # What they pick and the shape they give are no values of the score.
            waiting.append((node.input[0], weighed))
        elif kind == "Where":
            waiting += [(read, weighed) for read in node.input[1:]]
        elif kind in _ELEMENTWISE:
            waiting += [(read, weighed) for read in node.input if read]
        elif kind in _PRODUCTS and _weighs_labels(node, view):
            waiting += [(read, True) for read in node.input if read]
        elif kind not in _ENDS and (not weighed or kind in _PROBABILITIES):
            return kind
    return None


def _weighs_labels(product: onnx.NodeProto, view: GraphView) -> bool:
    """Whether one side of a product is a constant that has a row for each of a few labels."""
    sides = [view.constant(name) for name in product.input[:2]]
    return any(side is not None and max(side.shape, default=1) <= _FEW_LABELS for side in sides)


def _hidden_activation(node: onnx.NodeProto) -> str:
    """What a node may do besides what its operator says; "" where nothing."""
    if node.op_type in _CONTROL_FLOW or node.domain not in _DOMAINS:
        return f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type)
    fused = attributes(node).get("activation") if node.op_type.startswith("Fused") else None
    return fused.decode() if isinstance(fused, bytes) else ""


def _without_activation(
    model: onnx.ModelProto, view: GraphView, last: onnx.NodeProto, passed: list[onnx.NodeProto]
) -> _TakenOff | None:
    import onnx

    if last.op_type not in ("Sigmoid", "Softmax", "LogSoftmax"):
        return None
    picks = [node for node in passed if node.op_type in _PICKS]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if last.op_type == "Sigmoid":
        for node in copy.graph.node:
            if node.output[0] == last.output[0] and node.op_type == "Sigmoid":
                node.op_type = "Identity"
        return _TakenOff(copy, copy.graph.output[0].name)
    if not _over_last_axis(last, view):
        return None
    picked = None
    if picks:
        picked = _picked_column(picks[0], view) if len(picks) == 1 and last.op_type == "Softmax" else None
        if picked is None:
            return None
    name = last.input[0]
    del copy.graph.output[:]
    # Its type, which a cast behind the softmax may have changed, and its shape are found by running it.
    copy.graph.output.append(onnx.ValueInfoProto(name=name))
    remove_dead(copy.graph)
    return _TakenOff(copy, name, picked)


def _over_last_axis(softmax: onnx.NodeProto, _view: GraphView) -> bool:
    return attributes(softmax).get("axis", -1) in (-1, 1)


def _picked_column(pick: onnx.NodeProto, view: GraphView) -> int | None:
    """The one column, 0 or 1, that a node picks of two."""
    if pick.op_type == "Gather":
        index = view.constant(pick.input[1])
        if attributes(pick).get("axis", 0) not in (1, -1) or index is None or index.size != 1:
            return None
        column = int(index.reshape(-1)[0])
        return {-1: 1, -2: 0}.get(column, column)
    parts = [view.constant(name) if name else None for name in pick.input[1:]]
    starts, ends = parts[0], parts[1]
    axes = parts[2] if len(parts) > 2 else None  # noqa: PLR2004
    if starts is None or ends is None or axes is None or starts.size != 1 or int(axes.reshape(-1)[0]) not in (1, -1):
        return None
    start, end = int(starts.reshape(-1)[0]), int(ends.reshape(-1)[0])
    start = {-1: 1, -2: 0}.get(start, start)
    return start if start in (0, 1) and (start == 1 or end in (1, -1)) else None
