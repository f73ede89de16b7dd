"""How one operator is restricted to the first index of an axis of its output.

`restrict` answers, for one node and one axis of its output: which inputs must be restricted, and on which of
their axes, so that the same operator applied to them gives the output restricted to index 0 of the axis.
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
        axes: per input, the axis to restrict to its first index, or None where the input is taken whole.
        target: the whole shape of the output afterwards, where an input states it (Reshape, Expand).
        drop: the node does nothing any more: its restricted first input is the restricted output.
    """

    axes: tuple[int | None, ...]
    target: Shape | None = None
    drop: bool = False


@dataclass(frozen=True)
class Site:
    """A node with the shapes around it and the axis of its output in question."""

    node: onnx.NodeProto
    axis: int
    output: Shape
    inputs: tuple[Shape | None, ...]
    view: GraphView

    def only(self, index: int, axis: int) -> Restriction:
        """Restrict one input on one axis and take the others whole."""
        return Restriction(tuple(axis if i == index else None for i in range(len(self.inputs))))

    def shape(self, index: int) -> Shape:
        """The shape of an input that must be known."""
        shape = self.inputs[index] if index < len(self.inputs) else None
        if shape is None:
            raise UnrecognisedError(f"input {index} has no known shape")
        return shape

    def constant_axes(self, index: int) -> list[int] | None:
        """The integers of a constant input, None where there is no such input."""
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
        output: name of the output in question.
        axis: axis of the output, not negative.
        shapes: shapes of all tensors, from `probe_shapes`.
        view: the graph the node is in.

    Raises:
        UnrecognisedError: no rule is known, or a shape it needs is not.
    """
    if output not in shapes:
        raise UnrecognisedError("the output has no known shape")
    inputs = tuple(shapes.get(name) if name else None for name in node.input)
    site = Site(node, axis, shapes[output], inputs, view)
    if node.op_type in ELEMENTWISE:
        return _elementwise(site)
    if node.op_type not in _RULES:
        raise UnrecognisedError(f"no rule for operator {node.op_type}")
    return _RULES[node.op_type](site)


def _aligned(site: Site, index: int) -> int | None:
    """The axis of a broadcast input that lies on the output's axis, None where it does not vary on it."""
    if not site.node.input[index]:
        return None
    shape = site.shape(index)
    axis = site.axis - (len(site.output) - len(shape))
    if axis < 0 or shape[axis] == ONE:
        return None
    if shape[axis] is None or shape[axis] != site.output[site.axis]:
        raise UnrecognisedError(f"input {index} does not broadcast along the axis in a known way")
    return axis


def _elementwise(site: Site) -> Restriction:
    return Restriction(tuple(_aligned(site, index) for index in range(len(site.inputs))))


def _along_an_axis(site: Site) -> Restriction:
    default = -1
    along = int(attributes(site.node).get("axis", default)) % len(site.output)
    if along == site.axis:
        raise UnrecognisedError("it normalises along the sequence axis")
    return site.only(0, site.axis)


def _from_an_axis(site: Site) -> Restriction:
    first = int(attributes(site.node).get("axis", -1)) % len(site.output)
    if first <= site.axis:
        raise UnrecognisedError("it normalises over the sequence axis")
    return site.only(0, site.axis)


def _reduction(site: Site) -> Restriction:
    values = attributes(site.node)
    axes = list(values["axes"]) if "axes" in values else site.constant_axes(1)
    shape = site.shape(0)
    if not axes or not values.get("keepdims", 1) or site.axis in {axis % len(shape) for axis in axes}:
        raise UnrecognisedError("it reduces the sequence axis or drops axes")
    return site.only(0, site.axis)


def _matmul(site: Site) -> Restriction:
    if any(attributes(site.node).get(key, 0) for key in ("transA", "transB", "transBatchA", "transBatchB")):
        raise UnrecognisedError("it transposes its operands")
    left, right, rank = site.shape(0), site.shape(1), len(site.output)
    if len(left) < 2 or len(right) < 2:  # noqa: PLR2004
        raise UnrecognisedError("an operand is a vector")
    if site.axis == rank - 2:
        return site.only(0, len(left) - 2)
    if site.axis == rank - 1:
        return site.only(1, len(right) - 1)
    return _elementwise(site)


def _transpose(site: Site) -> Restriction:
    rank = len(site.output)
    perm = attributes(site.node).get("perm", list(reversed(range(rank))))
    return site.only(0, int(perm[site.axis]))


def _reshape(site: Site) -> Restriction:
    source, target = site.shape(0), site.output
    if None in source or None in target:
        raise UnrecognisedError("its shape is not known")
    before = _product(target[: site.axis])
    for axis, dim in enumerate(source):
        # Equal products before and equal sizes: the elements of an index are the same ones on both sides.
        if dim == target[site.axis] and _product(source[:axis]) == before:
            kept = (*target[: site.axis], ONE, *target[site.axis + 1 :])
            return Restriction((axis, None), target=kept)
    raise UnrecognisedError("it mixes the sequence axis with others")


def _product(dims: Shape) -> Dim:
    factor, batch, sequence = 1, 0, 0
    for dim in dims:
        if dim is not None:
            factor *= dim.factor
            batch += dim.batch_power
            sequence += dim.sequence_power
    return Dim(factor, batch, sequence)


def _expand(site: Site) -> Restriction:
    axis = _aligned(site, 0)
    target = (*site.output[: site.axis], ONE, *site.output[site.axis + 1 :])
    source = list(site.shape(0))
    if axis is not None:
        source[axis] = ONE
    if None in target:
        raise UnrecognisedError("its shape is not known")
    return Restriction((axis, None), target=target, drop=tuple(source) == target)


def _unsqueeze(site: Site) -> Restriction:
    added = {axis % len(site.output) for axis in _axes_of(site)}
    if site.axis in added:
        raise UnrecognisedError("the axis is one it adds")
    return site.only(0, [axis for axis in range(len(site.output)) if axis not in added].index(site.axis))


def _squeeze(site: Site) -> Restriction:
    rank = len(site.shape(0))
    removed = {axis % rank for axis in _axes_of(site)}
    return site.only(0, [axis for axis in range(rank) if axis not in removed][site.axis])


def _axes_of(site: Site) -> list[int]:
    axes = attributes(site.node).get("axes")
    axes = list(axes) if axes is not None else site.constant_axes(1)
    if axes is None:
        raise UnrecognisedError("it names no axes")
    return axes


def _slice(site: Site) -> Restriction:
    axes = site.constant_axes(3)
    rank = len(site.output)
    if axes is None or site.axis in {axis % rank for axis in axes}:
        raise UnrecognisedError("it slices the sequence axis")
    return site.only(0, site.axis)


def _split(site: Site) -> Restriction:
    if int(attributes(site.node).get("axis", 0)) % len(site.output) == site.axis:
        raise UnrecognisedError("it splits the sequence axis")
    return site.only(0, site.axis)


def _gather(site: Site) -> Restriction:
    data, indices = site.shape(0), site.shape(1)
    along = int(attributes(site.node).get("axis", 0)) % len(data)
    if site.axis < along:
        return site.only(0, site.axis)
    if site.axis < along + len(indices):
        return site.only(1, site.axis - along)
    return site.only(0, site.axis - len(indices) + 1)


def _gather_elements(site: Site) -> Restriction:
    along = int(attributes(site.node).get("axis", 0)) % len(site.output)
    if along == site.axis:
        return site.only(1, site.axis)
    if site.shape(0)[site.axis] != site.output[site.axis]:
        raise UnrecognisedError("data and indices differ along the axis")
    return Restriction((site.axis, site.axis))


def _concat(site: Site) -> Restriction:
    if int(attributes(site.node)["axis"]) % len(site.output) == site.axis:
        raise UnrecognisedError("it concatenates along the sequence axis")
    return Restriction((site.axis,) * len(site.inputs))


def _tile(site: Site) -> Restriction:
    if site.shape(0)[site.axis] != site.output[site.axis]:
        raise UnrecognisedError("it repeats along the axis")
    return site.only(0, site.axis)


_RULES: dict[str, Callable[[Site], Restriction]] = {
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
