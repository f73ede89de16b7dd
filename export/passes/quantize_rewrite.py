"""Rewrites float32 products and embedding tables of a graph into their eight-bit forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.passes.graph_tools import opset_of
from crossrank.export.passes.quantize_numbers import quantize_along, quantize_columns, quantize_rows
from crossrank.export.passes.quantize_sites import MICROSOFT, attribute, find_tables

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from crossrank.export.passes.quantize_numbers import Int8s
    from crossrank.export.passes.quantize_scheme import Scheme
    from crossrank.export.passes.quantize_sites import Site, Table

_AXES_ARE_AN_INPUT = 18  # of ReduceMax, from this opset on


@dataclass(frozen=True)
class _Input:
    """Names of a quantized activation; `row` is the divisor of each row, "" where there is none."""

    integers: str
    scale: str
    zero_point: str
    row: str


class Rewriter:
    """Edits a copy of a model: nodes change places in the order they had, new ones stand where they replace.

    Args:
        model: the graph to copy. It is not changed.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Copy the model."""
        import onnx
        from onnx import numpy_helper

        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.arrays: dict[str, NDArray[Any]] = {
            item.name: numpy_helper.to_array(item) for item in self.model.graph.initializer
        }
        self._added: dict[str, NDArray[Any]] = {}
        self._replacement: dict[int, list[onnx.NodeProto]] = {}
        self._first: list[onnx.NodeProto] = []
        self._renamed: dict[str, str] = {}
        self._inputs: dict[str, _Input] = {}

    def quantize_dynamically(self, site: Site) -> None:
        """Turn a product into an integer one whose activation scale is taken from the whole run."""
        integers, scales = quantize_columns(self._matrix(site))
        self._emit(site, self._dynamic_input(site.input), integers, scales)

    def quantize(self, site: Site, scheme: Scheme, integers: Int8s, scales: NDArray[np.float32]) -> None:
        """Turn a product into an integer one whose activation scale depends on nothing but the row.

        Args:
            site: the product.
            scheme: how its activation is rounded; the same for every site that reads it.
            integers: the weights, [rows, columns].
            scales: of the columns.
        """
        self._emit(site, self._prepared_input(site.input, scheme), integers, scales)

    def store_in_eight_bits(self, name: str, *, axis: int) -> None:
        """Keep a float32 constant as int8 in the file: onnxruntime folds it back when it loads the graph.

        Args:
            name: the initializer.
            axis: the one whose values share a scale.
        """
        from onnx import TensorProto
        from onnx.helper import make_node

        integers, scale = quantize_along(self.arrays[name], axis=axis)
        stored, scales = self.constant(f"{name}.int8", integers), self.constant(f"{name}.scale", scale)
        cast, result = f"{name}.float", f"{name}.restored"
        self._first += [
            make_node("Cast", [stored], [cast], name=cast, to=TensorProto.FLOAT),
            make_node("Mul", [cast, scales], [result], name=result),
        ]
        self._renamed[name] = result

    def quantize_tables(self) -> list[Table]:
        """Turn every embedding table into int8 rows with a scale each, read by two small `Gather`."""
        tables = find_tables(self.model, self.arrays)
        for table in tables:
            integers, scale = quantize_rows(self.arrays[table.weight])
            rows = self.constant(f"{table.weight}.int8", integers)
            scales = self.constant(f"{table.weight}.scale", scale)
            for index in table.nodes:
                self._gather_rows(index, rows, scales)
        return tables

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Add an initializer and give its name."""
        self._added[name] = array
        return name

    def finish(self) -> onnx.ModelProto:
        """Put everything in place, drop what nothing reads any more, and give the model."""
        from onnx import numpy_helper

        graph = self.model.graph
        nodes = [*self._first]
        for index, node in enumerate(graph.node):
            nodes.extend(self._replacement.get(index, [node]))
        for node in nodes[len(self._first) :]:
            for position, name in enumerate(node.input):
                node.input[position] = self._renamed.get(name, name)
        nodes = _alive(nodes, {output.name for output in graph.output})
        read = {name for node in nodes for name in node.input}
        kept = [item for item in graph.initializer if item.name in read]
        added = [numpy_helper.from_array(array, name) for name, array in self._added.items() if name in read]
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.initializer[:]
        graph.initializer.extend([*kept, *added])
        del graph.value_info[:]
        if not any(item.domain == MICROSOFT for item in self.model.opset_import):
            from onnx import helper

            self.model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        return self.model

    def _place(self, site: Site, before: list[onnx.NodeProto], product: list[onnx.NodeProto]) -> None:
        """Put the product where the last node was; what prepares its input where the first was.

        Sites come in the order of their first nodes, so what else reads the prepared input stands behind it.
        """
        for index in site.nodes:
            self._replacement[index] = []
        self._replacement[site.nodes[0]].extend(before)
        self._replacement[site.nodes[-1]].extend(product)

    def _matrix(self, site: Site) -> NDArray[np.float32]:
        weight: NDArray[np.float32] = self.arrays[site.weight]
        return np.ascontiguousarray(weight.T) if site.transposed else weight

    def _dynamic_input(self, name: str) -> tuple[list[onnx.NodeProto], _Input]:
        """Quantize an activation once, however many products read it."""
        from onnx import helper

        if name in self._inputs:
            return [], self._inputs[name]
        outputs = (f"{name}.uint8", f"{name}.scale", f"{name}.zero_point")
        node = helper.make_node("DynamicQuantizeLinear", [name], list(outputs), name=f"{name}.quantize")
        self._inputs[name] = _Input(*outputs, row="")
        return [node], self._inputs[name]

    def _prepared_input(self, name: str, scheme: Scheme) -> tuple[list[onnx.NodeProto], _Input]:
        from onnx.helper import make_node

        if name in self._inputs:
            return [], self._inputs[name]
        nodes: list[onnx.NodeProto] = []
        row, prepared = "", name
        if scheme.by_row:
            row, prepared = f"{name}.largest", f"{name}.by_row"
            nodes += self._largest_of_row(name, scheme, row)
            nodes.append(make_node("Div", [name, row], [prepared], name=prepared))
        elif np.any(scheme.smoothing != 1):
            factor = self.constant(f"{name}.smoothing", (1 / scheme.smoothing).astype(np.float32))
            prepared = f"{name}.smooth"
            nodes.append(make_node("Mul", [name, factor], [prepared], name=prepared))
        scale = self.constant(f"{name}.scale", np.array(scheme.scale, np.float32))
        zero = self.constant(f"{name}.zero_point", np.array(scheme.zero_point, np.uint8))
        integers = f"{name}.uint8"
        nodes.append(make_node("QuantizeLinear", [prepared, scale, zero], [integers], name=f"{name}.quantize"))
        self._inputs[name] = _Input(integers, scale, zero, row)
        return nodes, self._inputs[name]

    def _largest_of_row(self, name: str, scheme: Scheme, result: str) -> list[onnx.NodeProto]:
        from onnx.helper import make_node

        nodes: list[onnx.NodeProto] = []
        source = name
        if scheme.signed:
            source = f"{name}.magnitude"
            nodes.append(make_node("Abs", [name], [source], name=source))
        found, floor = f"{result}.found", self.constant(f"{result}.floor", np.array(scheme.floor, np.float32))
        if opset_of(self.model) >= _AXES_ARE_AN_INPUT:
            axes = self.constant("crossrank/last_axis", np.array([-1], np.int64))
            nodes.append(make_node("ReduceMax", [source, axes], [found], name=found))
        else:
            nodes.append(make_node("ReduceMax", [source], [found], name=found, axes=[-1]))
        nodes.append(make_node("Max", [found, floor], [result], name=result))
        return nodes

    def _emit(
        self,
        site: Site,
        prepared: tuple[list[onnx.NodeProto], _Input],
        integers: Int8s,
        scales: NDArray[np.float32],
    ) -> None:
        before, source = prepared
        weight = self.constant(f"{site.name}.weight", np.ascontiguousarray(integers))
        weight_scale = self.constant(f"{site.name}.weight_scale", scales)
        weight_zero = self.constant(f"{site.name}.weight_zero_point", np.zeros(scales.shape, np.int8))
        constants = (weight, weight_scale, weight_zero)
        if site.kind == "attention":
            self._place(site, before, [self._attention(site, source, constants)])
        else:
            self._place(site, before, self._linear(site, source, constants))

    def _linear(self, site: Site, source: _Input, constants: tuple[str, str, str]) -> list[onnx.NodeProto]:
        from onnx.helper import make_node

        weight, weight_scale, weight_zero = constants
        inputs = [source.integers, weight, source.scale, weight_scale, source.zero_point, weight_zero]
        name = f"{site.name}.int8"
        if not source.row:
            inputs += [site.bias] if site.bias else []
            return [make_node("MatMulIntegerToFloat", inputs, [site.output], name=name, domain=MICROSOFT)]
        by_row = f"{site.name}.by_row"
        rescaled = f"{site.name}.rescaled" if site.bias else site.output
        nodes = [
            make_node("MatMulIntegerToFloat", inputs, [by_row], name=name, domain=MICROSOFT),
            make_node("Mul", [by_row, source.row], [rescaled], name=f"{site.name}.rescale"),
        ]
        if site.bias:
            nodes.append(make_node("Add", [rescaled, site.bias], [site.output], name=f"{site.name}.bias"))
        return nodes

    def _attention(self, site: Site, source: _Input, constants: tuple[str, str, str]) -> onnx.NodeProto:
        from onnx import helper

        original = self.model.graph.node[site.nodes[0]]
        weight, weight_scale, weight_zero = constants
        mask = original.input[3] if len(original.input) > 3 else ""  # noqa: PLR2004
        node = helper.make_node(
            "QAttention",
            [source.integers, weight, site.bias, source.scale, weight_scale, mask, source.zero_point, weight_zero],
            [site.output],
            name=f"{site.name}.int8",
            domain=MICROSOFT,
        )
        node.attribute.append(helper.make_attribute("num_heads", attribute(original, "num_heads", 0)))
        for name in ("scale", "mask_filter_value"):
            if (value := attribute(original, name, None)) is not None:
                node.attribute.append(helper.make_attribute(name, value))
        return node

    def _gather_rows(self, index: int, rows: str, scales: str) -> None:
        from onnx import TensorProto
        from onnx.helper import make_node

        node = self.model.graph.node[index]
        as_float = TensorProto.FLOAT
        ids, output = node.input[1], node.output[0]
        self._replacement[index] = [
            make_node("Gather", [rows, ids], [f"{output}.int8"], name=f"{output}.rows", axis=0),
            make_node("Gather", [scales, ids], [f"{output}.scale"], name=f"{output}.scales", axis=0),
            make_node("Cast", [f"{output}.int8"], [f"{output}.float"], name=f"{output}.cast", to=as_float),
            make_node("Mul", [f"{output}.float", f"{output}.scale"], [output], name=f"{output}.rescale"),
        ]


def _alive(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Keep the nodes that the wanted tensors come from."""
    kept: list[onnx.NodeProto] = []
    needed = set(wanted)
    for node in reversed(nodes):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(name for name in node.input if name)
            for item in node.attribute:
                # Subgraphs read outer tensors by name.
                for graph in [item.g] if item.HasField("g") else list(item.graphs):
                    needed.update(_names_read(graph))
    return kept[::-1]


def _names_read(graph: onnx.GraphProto) -> set[str]:
    names = {output.name for output in graph.output}
    for node in graph.node:
        names.update(node.input)
        for item in node.attribute:
            for inner in [item.g] if item.HasField("g") else list(item.graphs):
                names |= _names_read(inner)
    return names
