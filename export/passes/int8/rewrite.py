"""Rewrites float32 products and embedding tables of a graph into their eight-bit forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.graph.tools import opset_of
from crossrank.export.passes.int8.products import MICROSOFT, find_tables
from crossrank.export.passes.int8.rounding import quantize_along, quantize_columns, quantize_rows

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from crossrank.export.passes.int8.products import Site, Table
    from crossrank.export.passes.int8.rounding import Int8s
    from crossrank.export.passes.int8.scheme import RoundedWeight, Scheme

_AXES_ARE_AN_INPUT = 18  # of ReduceMax, from this opset on


@dataclass(frozen=True)
class _Input:
    """Tensor names of a quantized activation; `row` is the divisor of each row, "" if rows are not divided."""

    integers: str
    scale: str
    zero_point: str
    row: str = ""


class Rewriter:
    """Edits a copy of a model: new nodes stand where the nodes they replace stood, and the others keep their order.

    Args:
        model: the graph to copy; not changed.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
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
        """Quantize a product, with one activation scale computed over the whole batch."""
        integers, scales = quantize_columns(self._matrix(site))
        bias = self.arrays[site.bias] if site.bias else None
        self._emit(site, self._dynamic_input(site.input), integers, scales, bias)

    def quantize(
        self, site: Site, scheme: Scheme, rounded: RoundedWeight, *, prepared: bool = False, prepares: Scheme | None
    ) -> None:
        """Quantize a product, with an activation scale that is fixed or depends only on the row.

        Args:
            site: the product.
            scheme: how its activation is rounded; the same for every product that reads it.
            rounded: the quantized weights.
            prepared: whether the activation is already shifted and divided.
            prepares: scheme of a later product whose shift and division are folded into this one; None for neither.
        """
        bias = rounded.bias + (self.arrays[site.bias] if site.bias else 0)
        scales = rounded.scales
        if prepares is not None:
            scales, bias = scales / prepares.divisor, (bias - prepares.shift) / prepares.divisor
        source = self._prepared_input(site.input, scheme, prepared=prepared)
        self._emit(site, source, rounded.integers, scales.astype(np.float32), bias.astype(np.float32))

    def store_in_eight_bits(self, name: str, *, axis: int) -> None:
        """Store a float32 constant as int8 in the file; onnxruntime restores float32 when it loads the graph.

        Args:
            name: the initializer.
            axis: axis whose values share a scale.
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
        """Store every embedding table as int8 rows and a scale per row, each read by a `Gather`; returns the tables."""
        tables = find_tables(self.model, self.arrays)
        for table in tables:
            integers, scale = quantize_rows(self.arrays[table.weight])
            rows = self.constant(f"{table.weight}.int8", integers)
            scales = self.constant(f"{table.weight}.scale", scale)
            for index in table.nodes:
                self._gather_rows(index, rows, scales)
        return tables

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Add an initializer; returns its name."""
        self._added[name] = array
        return name

    def finish(self) -> onnx.ModelProto:
        """Apply all edits and drop what nothing reads any more; returns the model."""
        from onnx import numpy_helper

        graph = self.model.graph
        nodes = [*self._first]
        for index, node in enumerate(graph.node):
            nodes.extend(self._replacement.get(index, [node]))
        for node in nodes[len(self._first) :]:
            for index, name in enumerate(node.input):
                node.input[index] = self._renamed.get(name, name)
        nodes = _alive(nodes, {output.name for output in graph.output})
        read = {name for node in nodes for name in node.input}
        unchanged = [item for item in graph.initializer if item.name in read]
        added = [numpy_helper.from_array(array, name) for name, array in self._added.items() if name in read]
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.initializer[:]
        graph.initializer.extend([*unchanged, *added])
        del graph.value_info[:]
        if not any(item.domain == MICROSOFT for item in self.model.opset_import):
            from onnx import helper

            self.model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        return self.model

    def _replace(self, site: Site, before: list[onnx.NodeProto], product: list[onnx.NodeProto]) -> None:
        """Put the product in place of a site's last node, and the nodes that prepare its input in place of the first.

        Products are quantized in the order of their first nodes, so all readers of the prepared input come after it.
        """
        for index in site.nodes:
            self._replacement[index] = []
        self._replacement[site.nodes[0]].extend(before)
        self._replacement[site.nodes[-1]].extend(product)

    def _matrix(self, site: Site) -> NDArray[np.float32]:
        weight: NDArray[np.float32] = self.arrays[site.weight]
        return np.ascontiguousarray(weight.T) if site.transposed else weight

    def _dynamic_input(self, name: str) -> tuple[list[onnx.NodeProto], _Input]:
        """Quantize an activation once for all products that read it."""
        from onnx import helper

        if name in self._inputs:
            return [], self._inputs[name]
        outputs = (f"{name}.uint8", f"{name}.scale", f"{name}.zero_point")
        node = helper.make_node("DynamicQuantizeLinear", [name], list(outputs), name=f"{name}.quantize")
        self._inputs[name] = _Input(*outputs)
        return [node], self._inputs[name]

    def _prepared_input(self, name: str, scheme: Scheme, *, prepared: bool) -> tuple[list[onnx.NodeProto], _Input]:
        from onnx.helper import make_node

        if name in self._inputs:
            return [], self._inputs[name]
        nodes: list[onnx.NodeProto] = []
        source, row = name, ""
        if scheme.row_floor is not None:
            row, source = f"{name}.largest", f"{name}.by_row"
            nodes += self._largest_of_row(name, scheme.row_floor, row, signed=scheme.signed)
            nodes.append(make_node("Div", [name, row], [source], name=source))
        elif not prepared:
            factor, offset = (
                (1 / scheme.divisor).astype(np.float32),
                (-scheme.shift / scheme.divisor).astype(np.float32),
            )
            for operator, step, constant, neutral in (("Mul", "divided", factor, 1), ("Add", "shifted", offset, 0)):
                if np.any(constant != neutral):
                    result = f"{name}.{step}"
                    stored = self.constant(f"{result}.constant", constant)
                    nodes.append(make_node(operator, [source, stored], [result], name=result))
                    source = result
        scale = self.constant(f"{name}.scale", np.array(scheme.scale, np.float32))
        zero = self.constant(f"{name}.zero_point", np.array(scheme.zero_point, np.uint8))
        integers = f"{name}.uint8"
        nodes.append(make_node("QuantizeLinear", [source, scale, zero], [integers], name=f"{name}.quantize"))
        self._inputs[name] = _Input(integers, scale, zero, row)
        return nodes, self._inputs[name]

    def _largest_of_row(self, name: str, floor: np.float32, result: str, *, signed: bool) -> list[onnx.NodeProto]:
        from onnx.helper import make_node

        nodes: list[onnx.NodeProto] = []
        source = name
        if signed:
            source = f"{name}.magnitude"
            nodes.append(make_node("Abs", [name], [source], name=source))
        largest, least = f"{result}.found", self.constant(f"{result}.floor", np.array(floor, np.float32))
        if opset_of(self.model) >= _AXES_ARE_AN_INPUT:
            axes = self.constant("crossrank/last_axis", np.array([-1], np.int64))
            nodes.append(make_node("ReduceMax", [source, axes], [largest], name=largest))
        else:
            nodes.append(make_node("ReduceMax", [source], [largest], name=largest, axes=[-1]))
        nodes.append(make_node("Max", [largest, least], [result], name=result))
        return nodes

    def _emit(
        self,
        site: Site,
        prepared: tuple[list[onnx.NodeProto], _Input],
        integers: Int8s,
        scales: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
    ) -> None:
        from onnx.helper import make_node

        before, source = prepared
        name = f"{site.name}.int8"
        weight = self.constant(f"{name}.weight", np.ascontiguousarray(integers))
        weight_scale = self.constant(f"{name}.weight_scale", scales)
        weight_zero = self.constant(f"{name}.weight_zero_point", np.zeros(scales.shape, np.int8))
        inputs = [source.integers, weight, source.scale, weight_scale, source.zero_point, weight_zero]
        stored = self.constant(f"{name}.bias", bias) if bias is not None else ""
        if source.row:
            product, rescaled = f"{name}.by_row", f"{name}.rescaled" if stored else site.output
            nodes = [
                make_node("MatMulIntegerToFloat", inputs, [product], name=name, domain=MICROSOFT),
                make_node("Mul", [product, source.row], [rescaled], name=f"{name}.rescale"),
            ]
            if stored:
                nodes.append(make_node("Add", [rescaled, stored], [site.output], name=f"{name}.add_bias"))
        else:
            inputs += [stored] if stored else []
            nodes = [make_node("MatMulIntegerToFloat", inputs, [site.output], name=name, domain=MICROSOFT)]
        self._replace(site, before, nodes)

    def _gather_rows(self, index: int, rows: str, scales: str) -> None:
        from onnx import TensorProto
        from onnx.helper import make_node

        node = self.model.graph.node[index]
        as_float = TensorProto.FLOAT
        ids, output = node.input[1], node.output[0]
        # If a product reads the rows, as after DeBERTa-v2's narrower embeddings, its scale already has that name.
        scale = f"{output}.row_scale" if output in self._inputs else f"{output}.scale"
        self._replacement[index] = [
            make_node("Gather", [rows, ids], [f"{output}.int8"], name=f"{output}.rows", axis=0),
            make_node("Gather", [scales, ids], [scale], name=f"{output}.scales", axis=0),
            make_node("Cast", [f"{output}.int8"], [f"{output}.float"], name=f"{output}.cast", to=as_float),
            make_node("Mul", [f"{output}.float", scale], [output], name=f"{output}.rescale"),
        ]


def _alive(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that some outputs depend on."""
    alive: list[onnx.NodeProto] = []
    needed = set(outputs)
    for node in reversed(nodes):
        if any(name in needed for name in node.output):
            alive.append(node)
            needed.update(name for name in node.input if name)
            for item in node.attribute:
                # Subgraphs read outer tensors by name.
                for graph in [item.g] if item.HasField("g") else list(item.graphs):
                    needed.update(_names_read(graph))
    return alive[::-1]


def _names_read(graph: onnx.GraphProto) -> set[str]:
    names = {output.name for output in graph.output}
    for node in graph.node:
        names.update(node.input)
        for item in node.attribute:
            for inner in [item.g] if item.HasField("g") else list(item.graphs):
                names |= _names_read(inner)
    return names
