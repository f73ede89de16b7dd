"""Edits of a graph: new nodes and constants, and a copy of the graph with them in their places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from crossrank.export.graph.tools import constant_node, remove_dead, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MICROSOFT = "com.microsoft"
"""Domain of onnxruntime's own operators."""


class NodeBuilder:
    """Collects new nodes of one output each, and the constants that they read.

    Attributes:
        nodes: the nodes in the order they were added.
        tensors: constants that are to be initializers, by name.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, np.ndarray[Any, Any]] = {}

    def add(
        self, op_type: str, inputs: Sequence[str], output: str, *, name: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """Add a node, named after its output where no name is given; returns the output."""
        node = helper.make_node(op_type, inputs, [output], name=name or output, domain=domain or None, **attributes)
        self.nodes.append(node)
        return output

    def tensor(self, name: str, value: Any, dtype: Any = None) -> str:
        """Add a constant as an initializer; returns its name."""
        self.tensors[name] = np.ascontiguousarray(value, dtype) if np.ndim(value) else np.asarray(value, dtype)
        return name

    def constant(self, name: str, value: Any) -> str:
        """Add integers as a Constant node; returns its output."""
        self.nodes.append(constant_node(name, np.asarray(value, np.int64)))
        return name

    def initializers(self) -> list[onnx.TensorProto]:
        """The constants as the graph holds them."""
        return [numpy_helper.from_array(value, name) for name, value in self.tensors.items()]


class GraphEdit:
    """Edits a copy of a graph. What is not edited keeps its place, and what nothing reads any more is left out.

    A node is named by its first output.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Copy the graph.

        Args:
            model: the graph to edit; not changed.
        """
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self._first: list[onnx.NodeProto] = []
        self._after: dict[str, list[onnx.NodeProto]] = {}
        self._instead: dict[str, list[onnx.NodeProto]] = {}
        self._renamed: dict[str, str] = {}
        self._renamed_in: dict[str, Mapping[str, str]] = {}

    def first(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Put nodes before all others, behind those put there before."""
        self._first += nodes

    def after(self, tensor: str, nodes: Iterable[onnx.NodeProto]) -> None:
        """Put nodes right after the node that makes a tensor, or first of all if it is an input of the graph."""
        self._after.setdefault(tensor, []).extend(nodes)

    def instead(self, output: str, nodes: Iterable[onnx.NodeProto]) -> None:
        """Put nodes in the place of one, behind those put there before."""
        self._instead.setdefault(output, []).extend(nodes)

    def read_instead(self, old: str, new: str) -> None:
        """Let every node read another tensor instead of one, except nodes put first."""
        self._renamed[old] = new

    def read_instead_in(self, output: str, renamed: Mapping[str, str]) -> None:
        """Let one node read other tensors."""
        self._renamed_in[output] = renamed

    def store(self, built: NodeBuilder) -> None:
        """Add a builder's constants to the graph's initializers."""
        self.model.graph.initializer.extend(built.initializers())

    def finish(self) -> onnx.ModelProto:
        """Apply the edits; returns the new graph."""
        graph = self.model.graph
        nodes: list[onnx.NodeProto] = []
        for value in graph.input:
            nodes += self._after.get(value.name, ())
        for node in graph.node:
            renamed = self._renamed_in.get(node.output[0], {})
            if not renamed.keys().isdisjoint(node.input):
                replace(node.input, [renamed.get(name, name) for name in node.input])
            nodes += self._instead.get(node.output[0], (node,))
            for name in node.output:
                nodes += self._after.get(name, ())
        for node in nodes:
            if not self._renamed.keys().isdisjoint(node.input):
                replace(node.input, [self._renamed.get(name, name) for name in node.input])
        replace(graph.node, [*self._first, *nodes])
        del graph.value_info[:]
        uses_microsoft = any(node.domain == MICROSOFT for node in graph.node)
        if uses_microsoft and all(entry.domain != MICROSOFT for entry in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        remove_dead(graph)
        return self.model
