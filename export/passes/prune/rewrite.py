"""Builds the pruned graph, in which some tensors hold only index 0 of an axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper

from crossrank.export.graph.editing import GraphEdit, NodeBuilder
from crossrank.export.graph.shapes import BATCH, ONE, SEQUENCE, Dim, Shape
from crossrank.export.graph.tools import replace

if TYPE_CHECKING:
    from crossrank.export.graph.tools import GraphView
    from crossrank.export.passes.prune.node_rules import Restriction


class Rewriter:
    """Collects nodes to add to a graph and puts each right after the node whose output it restricts."""

    def __init__(self, model: onnx.ModelProto, shapes: dict[str, Shape], view: GraphView) -> None:
        """Copy the graph.

        Args:
            model: the graph to rewrite; not changed.
            shapes: its shapes, from `probe_shapes`.
            view: look-ups over it.
        """
        self._edit = GraphEdit(model)
        self._input = model.graph.input[0].name
        self._shapes = shapes
        self._view = view
        self._sizes_built = NodeBuilder()
        self._sizes: dict[Dim, str] = {}
        self._constants: dict[str, list[int]] = {}
        self._made: set[str] = set()

    def cut(self, name: str, axis: int) -> None:
        """Make the restricted form of a tensor with a Slice."""
        bounds = [self._vector([value]) for value in (0, 1, axis)]
        node = helper.make_node("Slice", [name, *bounds], [restricted(name, axis)], name=restricted(name, axis))
        self._edit.after(name, [node])

    def restrict(self, name: str, axis: int, restriction: Restriction) -> None:
        """Make the restricted form of a tensor with a copy of its node that reads restricted inputs."""
        original = self._view.producers[name]
        inputs = [
            source if source_axis is None else restricted(source, source_axis)
            for source, source_axis in zip(original.input, restriction.axes, strict=True)
        ]
        new_name = restricted(name, axis)
        if new_name in self._made:
            return
        if restriction.drop:
            self._edit.after(name, [helper.make_node("Identity", inputs[:1], [new_name], name=new_name)])
            return
        if restriction.target is not None:
            allow_copy = original.op_type == "Reshape"
            source = self._restricted_shape(original.input[0], restriction.axes[0])
            inputs[1] = self._shape_tensor(restriction.target, source if allow_copy else None)
        node = onnx.NodeProto()
        node.CopyFrom(original)
        node.name = new_name
        replace(node.input, inputs)
        # A Split has several outputs; one copy makes them all.
        replace(node.output, [restricted(output, axis) if output else "" for output in original.output])
        self._made.update(node.output)
        if node.op_type == "Reshape":
            replace(node.attribute, [entry for entry in node.attribute if entry.name != "allowzero"])
        self._edit.after(name, [node])

    def feed_head(self, head: onnx.NodeProto) -> None:
        """Let the head's selection of token 0 read the restricted hidden states."""
        self._edit.read_instead_in(head.output[0], {head.input[0]: restricted(head.input[0], 1)})

    def state_shape(self, node: onnx.NodeProto) -> None:
        """Replace a Shape node of a tensor that is no longer computed."""
        shape = self._shapes[node.input[0]]
        tensor = self._shape_tensor(shape, None)
        stated = helper.make_node("Identity", [tensor], [node.output[0]], name=node.name or node.output[0])
        self._edit.instead(node.output[0], [stated])

    def finish(self) -> onnx.ModelProto:
        """The new graph, without nodes and initializers that nothing reads any more."""
        # Constant nodes instead of initializers: onnxruntime's transformer optimizer moves initializers out of a model
        # before it infers shapes, and could not read target shapes stored there.
        constants = NodeBuilder()
        for name, values in sorted(self._constants.items()):
            constants.constant(name, values)
        self._edit.first([*constants.nodes, *self._sizes_built.nodes])
        return self._edit.finish()

    def _restricted_shape(self, name: str, axis: int | None) -> Shape:
        shape = self._shapes[name]
        return shape if axis is None else (*shape[:axis], ONE, *shape[axis + 1 :])

    def _vector(self, values: list[int]) -> str:
        name = "crossrank/" + "_".join(str(value) for value in values)
        self._constants[name] = values
        return name

    def _shape_tensor(self, shape: Shape, source: Shape | None) -> str:
        """Name of a tensor that holds a shape.

        Args:
            shape: the shape; every dimension is known.
            source: shape of the tensor that a Reshape reads, so that 0 (copy) and -1 (infer) may be used; None if
                another operator reads the shape.
        """
        dims = [dim for dim in shape if dim is not None]
        if all(dim.is_constant for dim in dims):
            return self._vector([dim.factor for dim in dims])
        if source is not None:
            values = [
                dim.factor if dim.is_constant else 0 if index < len(source) and source[index] == dim else -1
                for index, dim in enumerate(dims)
            ]
            if values.count(-1) <= 1:
                return self._vector(values)
        parts = [self._size(dim) for dim in dims]
        name = "crossrank/shape/" + "_".join(_dim_name(dim) for dim in dims)
        if all(node.output[0] != name for node in self._sizes_built.nodes):
            self._sizes_built.add("Concat", parts, name, axis=0)
        return name

    def _size(self, dim: Dim) -> str:
        """Name of a one-element vector that holds a dimension, computed from the shape of the first input."""
        if dim.is_constant:
            return self._vector([dim.factor])
        if dim in self._sizes:
            return self._sizes[dim]
        name = f"crossrank/size/{_dim_name(dim)}"
        if dim in (BATCH, SEQUENCE):
            if "crossrank/input_shape" not in {node.name for node in self._sizes_built.nodes}:
                self._sizes_built.add("Shape", [self._input], "crossrank/input_shape")
            index = self._vector([0 if dim == BATCH else 1])
            self._sizes_built.add("Gather", ["crossrank/input_shape", index], name)
        else:
            factors = [BATCH] * dim.batch_power + [SEQUENCE] * dim.sequence_power + [Dim(dim.factor)]
            factors = [factor for factor in factors if factor != ONE]
            product = self._size(factors[0])
            for step, factor in enumerate(factors[1:], start=2):
                partial = name if step == len(factors) else f"{name}/{step}"
                product = self._sizes_built.add("Mul", [product, self._size(factor)], partial)
        self._sizes[dim] = name
        return name


def restricted(name: str, axis: int) -> str:
    """Name of a tensor's form that holds index 0 of an axis only."""
    return f"{name}/first_{axis}"


def _dim_name(dim: Dim) -> str:
    return f"{dim.factor}b{dim.batch_power}s{dim.sequence_power}"
