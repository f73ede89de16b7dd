"""One rule per operator: how to compute only index 0 of an axis of its output.

For one node and one axis of its output, `restrict` says which inputs must be restricted to index 0, and on which of
their axes, so that the same operator gives the output restricted to index 0 of that axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.export.graph.shapes import ONE, Dim, Shape
from crossrank.export.graph.tools import attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from crossrank.export.graph.tools import GraphView

# fmt: off
ELEMENTWISE = frozenset((
    "Abs", "Add", "And", "BiasGelu", "BitShift", "Cast", "Ceil", "Clip", "Cos", "Div", "Dropout",
    "Elu", "Equal", "Erf", "Exp", "FastGelu", "Floor", "Gelu", "Greater", "GreaterOrEqual",
    "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min",
    "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuickGelu", "Reciprocal", "Relu", "Round",
    "Sigmoid", "Sign", "Sin", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    "Softplus", "Sqrt", "Sub", "Sum", "Tanh", "Where", "Xor",
))
# fmt: on
_ALONG_AN_AXIS = frozenset(("LogSoftmax", "Softmax"))
_FROM_AN_AXIS = frozenset(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"))
_REDUCTIONS = frozenset(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"))


class UnrecognisedError(Exception):
    """A node cannot be restricted to one index of an axis; the message says why."""


@dataclass(frozen=True)
class Restriction:
    """What a node needs in order to compute one index of an output axis.

    Attributes:
        axes: for each input, the axis to restrict to index 0; None to read the whole input.
        target: shape of the restricted output, for operators that read it from an input (Reshape, Expand).
        drop: whether the node can go, because its restricted first input already is the restricted output.
    """

    axes: tuple[int | None, ...]
    target: Shape | None = None
    drop: bool = False


@dataclass(frozen=True)
class OutputAxis:
    """An axis of a node's output, with the shapes that its rule needs."""

    node: onnx.NodeProto
    axis: int
    output: Shape
    inputs: tuple[Shape | None, ...]
    view: GraphView

    def only(self, index: int, axis: int) -> Restriction:
        """Restrict one input on one axis and read the others whole."""
        return Restriction(tuple(axis if i == index else None for i in range(len(self.inputs))))

    def shape(self, index: int) -> Shape:
        """The shape of an input; refuses the node if it is not known."""
        shape = self.inputs[index] if index < len(self.inputs) else None
        if shape is None:
            raise UnrecognisedError(f"input {index} has no known shape")
        return shape

    def constant_axes(self, index: int) -> list[int] | None:
        """The integers of a constant input; None if the node has no such input."""
        if index >= len(self.node.input) or not self.node.input[index]:
            return None
        value = self.view.constant(self.node.input[index])
        if value is None:
            raise UnrecognisedError(f"input {index} is not constant")
        return [int(item) for item in value.reshape(-1)]


def restrict(node: onnx.NodeProto, output: str, axis: int, shapes: dict[str, Shape], view: GraphView) -> Restriction:
    """Find what a node needs in order to compute index 0 of one axis of one of its outputs.

    Args:
        node: the node.
        output: name of the output to restrict.
        axis: axis of the output, not negative.
        shapes: shapes of all tensors, from `probe_shapes`.
        view: the graph the node is in.

    Raises:
        UnrecognisedError: the operator has no rule, its rule does not cover this axis, or a shape is not known.
    """
    if output not in shapes:
        raise UnrecognisedError("the output has no known shape")
    inputs = tuple(shapes.get(name) if name else None for name in node.input)
    at = OutputAxis(node, axis, shapes[output], inputs, view)
    if node.op_type in ELEMENTWISE:
        return _elementwise(at)
    if node.op_type not in _RULES:
        raise UnrecognisedError(f"no rule for operator {node.op_type}")
    return _RULES[node.op_type](at)


def _aligned(at: OutputAxis, index: int) -> int | None:
    """The input axis that broadcasts to the output's axis; None if the input has no such axis or size 1."""
    if not at.node.input[index]:
        return None
    shape = at.shape(index)
    axis = at.axis - (len(at.output) - len(shape))
    if axis < 0 or shape[axis] == ONE:
        return None
    if shape[axis] is None or shape[axis] != at.output[at.axis]:
        raise UnrecognisedError(f"input {index} does not broadcast along the axis in a known way")
    return axis


def _elementwise(at: OutputAxis) -> Restriction:
    return Restriction(tuple(_aligned(at, index) for index in range(len(at.inputs))))


def _along_an_axis(at: OutputAxis) -> Restriction:
    along = int(attributes(at.node).get("axis", -1)) % len(at.output)
    if along == at.axis:
        raise UnrecognisedError("it normalises along the sequence axis")
    return at.only(0, at.axis)


def _from_an_axis(at: OutputAxis) -> Restriction:
    first = int(attributes(at.node).get("axis", -1)) % len(at.output)
    if first <= at.axis:
        raise UnrecognisedError("it normalises over the sequence axis")
    return at.only(0, at.axis)


def _reduction(at: OutputAxis) -> Restriction:
    values = attributes(at.node)
    axes = list(values["axes"]) if "axes" in values else at.constant_axes(1)
    shape = at.shape(0)
    if not axes or not values.get("keepdims", 1) or at.axis in {axis % len(shape) for axis in axes}:
        raise UnrecognisedError("it reduces the sequence axis or drops axes")
    return at.only(0, at.axis)


def _matmul(at: OutputAxis) -> Restriction:
    if any(attributes(at.node).get(key, 0) for key in ("transA", "transB", "transBatchA", "transBatchB")):
        raise UnrecognisedError("it transposes its operands")
    left, right, rank = at.shape(0), at.shape(1), len(at.output)
    if len(left) < 2 or len(right) < 2:  # noqa: PLR2004
        raise UnrecognisedError("an operand is a vector")
    if at.axis == rank - 2:
        return at.only(0, len(left) - 2)
    if at.axis == rank - 1:
        return at.only(1, len(right) - 1)
    return _elementwise(at)


def _transpose(at: OutputAxis) -> Restriction:
    rank = len(at.output)
    perm = attributes(at.node).get("perm", list(reversed(range(rank))))
    return at.only(0, int(perm[at.axis]))


def _reshape(at: OutputAxis) -> Restriction:
    source, target = at.shape(0), at.output
    if None in source or None in target:
        raise UnrecognisedError("its shape is not known")
    before = _product(target[: at.axis])
    for axis, dim in enumerate(source):
        # Axis and preceding sizes agree on both sides, so index 0 holds the same elements on both.
        if dim == target[at.axis] and _product(source[:axis]) == before:
            restricted = (*target[: at.axis], ONE, *target[at.axis + 1 :])
            return Restriction((axis, None), target=restricted)
    raise UnrecognisedError("it mixes the sequence axis with others")


def _product(dims: Shape) -> Dim:
    factor, batch, sequence = 1, 0, 0
    for dim in dims:
        if dim is not None:
            factor *= dim.factor
            batch += dim.batch_power
            sequence += dim.sequence_power
    return Dim(factor, batch, sequence)


def _expand(at: OutputAxis) -> Restriction:
    axis = _aligned(at, 0)
    target = (*at.output[: at.axis], ONE, *at.output[at.axis + 1 :])
    source = list(at.shape(0))
    if axis is not None:
        source[axis] = ONE
    if None in target:
        raise UnrecognisedError("its shape is not known")
    return Restriction((axis, None), target=target, drop=tuple(source) == target)


def _unsqueeze(at: OutputAxis) -> Restriction:
    added = {axis % len(at.output) for axis in _axes_of(at)}
    if at.axis in added:
        raise UnrecognisedError("the axis is one it adds")
    return at.only(0, [axis for axis in range(len(at.output)) if axis not in added].index(at.axis))


def _squeeze(at: OutputAxis) -> Restriction:
    rank = len(at.shape(0))
    removed = {axis % rank for axis in _axes_of(at)}
    return at.only(0, [axis for axis in range(rank) if axis not in removed][at.axis])


def _axes_of(at: OutputAxis) -> list[int]:
    axes = attributes(at.node).get("axes")
    axes = list(axes) if axes is not None else at.constant_axes(1)
    if axes is None:
        raise UnrecognisedError("it names no axes")
    return axes


def _slice(at: OutputAxis) -> Restriction:
    axes = at.constant_axes(3)
    rank = len(at.output)
    if axes is None or at.axis in {axis % rank for axis in axes}:
        raise UnrecognisedError("it slices the sequence axis")
    return at.only(0, at.axis)


def _split(at: OutputAxis) -> Restriction:
    if int(attributes(at.node).get("axis", 0)) % len(at.output) == at.axis:
        raise UnrecognisedError("it splits the sequence axis")
    return at.only(0, at.axis)


def _gather(at: OutputAxis) -> Restriction:
    data, indices = at.shape(0), at.shape(1)
    along = int(attributes(at.node).get("axis", 0)) % len(data)
    if at.axis < along:
        return at.only(0, at.axis)
    if at.axis < along + len(indices):
        return at.only(1, at.axis - along)
    return at.only(0, at.axis - len(indices) + 1)


def _gather_elements(at: OutputAxis) -> Restriction:
    along = int(attributes(at.node).get("axis", 0)) % len(at.output)
    if along == at.axis:
        return at.only(1, at.axis)
    if at.shape(0)[at.axis] != at.output[at.axis]:
        raise UnrecognisedError("data and indices differ along the axis")
    return Restriction((at.axis, at.axis))


def _concat(at: OutputAxis) -> Restriction:
    if int(attributes(at.node)["axis"]) % len(at.output) == at.axis:
        raise UnrecognisedError("it concatenates along the sequence axis")
    return Restriction((at.axis,) * len(at.inputs))


def _tile(at: OutputAxis) -> Restriction:
    if at.shape(0)[at.axis] != at.output[at.axis]:
        raise UnrecognisedError("it repeats along the axis")
    return at.only(0, at.axis)


_RULES: dict[str, Callable[[OutputAxis], Restriction]] = {
    **dict.fromkeys(_ALONG_AN_AXIS, _along_an_axis),
    **dict.fromkeys(_FROM_AN_AXIS, _from_an_axis),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    "Concat": _concat,
    "Expand": _expand,
    "FusedMatMul": _matmul,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
