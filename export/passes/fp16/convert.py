"""Converts a graph to float16, except for chosen nodes and the tensors between them, which stay in float32.

onnxruntime's own converter rounds to float16 between two nodes that are both kept in float32, which defeats the
purpose: an angle that needs 24 bits is rounded before its cosine is taken, and a sum that overflows is infinite before
the norm that would have made it small.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crossrank.export.graph.tools import GraphView, attributes, reads, replace, subgraphs

_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
_NAMES = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}


def convert(model: onnx.ModelProto, types: dict[str, int], keep: set[str]) -> onnx.ModelProto:
    """Convert a float32 graph to float16.

    Finite constants beyond float16's range become its largest values (so that a mask's lowest float stays finite), and
    constants too small for it become its smallest (so that an epsilon does not become zero).

    Args:
        model: float32 graph whose nodes all have names; not changed.
        types: element type of every tensor that a node outputs, from `probe_types`.
        keep: names of nodes to keep in float32.

    Returns:
        A new graph whose inputs and outputs have the same types as before.
    """
    return _Converter(model, types, keep).run()


class _Converter:
    def __init__(self, model: onnx.ModelProto, types: dict[str, int], keep: set[str]) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._view = GraphView(model.graph)
        self._types = types
        self._keep = keep | self._around_subgraphs(model.graph)
        self._nodes: list[onnx.NodeProto] = []
        self._native: dict[str, int] = {}
        self._cast: set[str] = set()
        self._constants: dict[str, np.ndarray[Any, Any]] = {}

    def _around_subgraphs(self, graph: onnx.GraphProto) -> set[str]:
        """Nodes that have subgraphs, and the nodes whose outputs those subgraphs read by name."""
        holders = [node for node in graph.node if any(True for _ in subgraphs(node))]
        read = {name for node in holders for name in reads(node)}
        return {node.name for node in graph.node if node in holders or read.intersection(node.output)}

    def run(self) -> onnx.ModelProto:
        graph = self._model.graph
        outputs = {value.name for value in graph.output}
        for node in graph.node:
            if node.op_type == "Constant" and self._is_float(node.output[0]):
                continue  # added again as an initializer, in the type its readers need
            target = TensorProto.FLOAT if node.name in self._keep else TensorProto.FLOAT16
            replace(node.input, [self._in_type(name, target) for name in node.input])
            if target == TensorProto.FLOAT16:
                _retype_attributes(node)
            made = [name for name in node.output if self._is_float(name)]
            self._nodes.append(node)
            self._native.update(dict.fromkeys(made, target))
            for name in outputs.intersection(made):
                if target == TensorProto.FLOAT16:
                    self._cast_output(node, name)
        replace(graph.node, self._nodes)
        used = {name for node in graph.node for name in reads(node)}
        unchanged = [tensor for tensor in graph.initializer if tensor.name in used]
        converted = (numpy_helper.from_array(value, name) for name, value in sorted(self._constants.items()))
        replace(graph.initializer, [*unchanged, *converted])
        del graph.value_info[:]
        return self._model

    def _is_float(self, name: str) -> bool:
        return bool(self._types.get(name) == TensorProto.FLOAT)

    def _in_type(self, name: str, target: int) -> str:
        """Name of a tensor converted to a float type; its own name if it does not hold floats."""
        constant = self._view.constant(name) if name else None
        if constant is not None:
            if constant.dtype != np.float32:
                return name
            if target == TensorProto.FLOAT and not self._is_float(name):
                return name  # an initializer, which already is float32
            typed = f"{name}/{_NAMES[target]}"
            if typed not in self._constants:
                self._constants[typed] = constant if target == TensorProto.FLOAT else _rounded(constant)
            return typed
        native = self._native.get(name)
        if native is None or native == target:
            return name
        typed = f"{name}/{_NAMES[target]}"
        if typed not in self._cast:
            self._cast.add(typed)
            self._nodes.append(helper.make_node("Cast", [name], [typed], name=typed, to=target))
        return typed

    def _cast_output(self, node: onnx.NodeProto, name: str) -> None:
        """Cast a graph output back to float32 and keep its name."""
        inner = f"{name}/fp16"
        replace(node.output, [inner if output == name else output for output in node.output])
        self._nodes.append(helper.make_node("Cast", [inner], [name], name=f"{name}/fp32", to=TensorProto.FLOAT))
        self._native[name] = TensorProto.FLOAT


def _retype_attributes(node: onnx.NodeProto) -> None:
    """Let a node whose attributes set its output type output float16."""
    values = attributes(node)
    if node.op_type == "Cast" and values["to"] == TensorProto.FLOAT:
        replace(node.attribute, [helper.make_attribute("to", TensorProto.FLOAT16)])
    elif node.op_type == "ConstantOfShape" and "value" in values:
        value = numpy_helper.to_array(values["value"])
        if value.dtype == np.float32:
            replace(node.attribute, [helper.make_attribute("value", numpy_helper.from_array(_rounded(value), "value"))])


def _rounded(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    clipped = np.where(np.isfinite(value), np.clip(value, -_LARGEST, _LARGEST), value)
    fp16 = clipped.astype(np.float16)
    underflowed = (fp16 == 0) & (value != 0)
    return np.where(underflowed, np.copysign(np.float16(_SMALLEST), value), fp16).astype(np.float16)
