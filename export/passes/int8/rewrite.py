"""Rewrites float32 products and embedding tables of a graph into their eight-bit forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from crossrank.export.graph.editing import MICROSOFT, GraphEdit, NodeBuilder
from crossrank.export.graph.tools import opset_of
from crossrank.export.passes.int8.products import find_tables
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
        self.arrays: dict[str, NDArray[Any]] = {
            item.name: numpy_helper.to_array(item) for item in model.graph.initializer
        }
        self._model = model
        self._edit = GraphEdit(model)
        self._build = NodeBuilder()
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
        integers, scale = quantize_along(self.arrays[name], axis=axis)
        stored, scales = self._build.tensor(f"{name}.int8", integers), self._build.tensor(f"{name}.scale", scale)
        cast = self._build.add("Cast", [stored], f"{name}.float", to=TensorProto.FLOAT)
        self._edit.read_instead(name, self._build.add("Mul", [cast, scales], f"{name}.restored"))
        self._edit.first(self._taken())

    def quantize_tables(self) -> list[Table]:
        """Store every embedding table as int8 rows and a scale per row, each read by a `Gather`; returns the tables."""
        tables = find_tables(self._model, self.arrays)
        for table in tables:
            integers, scale = quantize_rows(self.arrays[table.weight])
            rows = self._build.tensor(f"{table.weight}.int8", integers)
            scales = self._build.tensor(f"{table.weight}.scale", scale)
            for node in table.nodes:
                self._gather_rows(node, rows, scales)
        return tables

    def finish(self) -> onnx.ModelProto:
        """Apply all edits and drop what nothing reads any more; returns the model."""
        self._edit.store(self._build)
        return self._edit.finish()

    def _taken(self) -> list[onnx.NodeProto]:
        """The nodes built since the last time."""
        taken, self._build.nodes = self._build.nodes, []
        return taken

    def _matrix(self, site: Site) -> NDArray[np.float32]:
        weight: NDArray[np.float32] = self.arrays[site.weight]
        return np.ascontiguousarray(weight.T) if site.transposed else weight

    def _dynamic_input(self, name: str) -> _Input:
        """Quantize an activation once for all products that read it."""
        if name not in self._inputs:
            outputs = (f"{name}.uint8", f"{name}.scale", f"{name}.zero_point")
            self._build.nodes.append(
                helper.make_node("DynamicQuantizeLinear", [name], outputs, name=f"{name}.quantize")
            )
            self._inputs[name] = _Input(*outputs)
        return self._inputs[name]

    def _prepared_input(self, name: str, scheme: Scheme, *, prepared: bool) -> _Input:
        """Quantize an activation by a scheme, once for all products that read it."""
        if name in self._inputs:
            return self._inputs[name]
        build = self._build
        source, row = name, ""
        if scheme.row_floor is not None:
            row = self._largest_of_row(name, scheme.row_floor, f"{name}.largest", signed=scheme.signed)
            source = build.add("Div", [name, row], f"{name}.by_row")
        elif not prepared:
            factor, offset = (
                (1 / scheme.divisor).astype(np.float32),
                (-scheme.shift / scheme.divisor).astype(np.float32),
            )
            for operator, step, constant, neutral in (("Mul", "divided", factor, 1), ("Add", "shifted", offset, 0)):
                if np.any(constant != neutral):
                    result = f"{name}.{step}"
                    source = build.add(operator, [source, build.tensor(f"{result}.constant", constant)], result)
        scale = build.tensor(f"{name}.scale", scheme.scale, np.float32)
        zero = build.tensor(f"{name}.zero_point", scheme.zero_point, np.uint8)
        integers = build.add("QuantizeLinear", [source, scale, zero], f"{name}.uint8", name=f"{name}.quantize")
        self._inputs[name] = _Input(integers, scale, zero, row)
        return self._inputs[name]

    def _largest_of_row(self, name: str, floor: np.float32, result: str, *, signed: bool) -> str:
        build = self._build
        source = build.add("Abs", [name], f"{name}.magnitude") if signed else name
        least = build.tensor(f"{result}.floor", floor, np.float32)
        if opset_of(self._model) >= _AXES_ARE_AN_INPUT:
            axes = build.tensor("crossrank/last_axis", [-1], np.int64)
            largest = build.add("ReduceMax", [source, axes], f"{result}.found")
        else:
            largest = build.add("ReduceMax", [source], f"{result}.found", axes=[-1])
        return build.add("Max", [largest, least], result)

    def _emit(
        self,
        site: Site,
        source: _Input,
        integers: Int8s,
        scales: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
    ) -> None:
        """Put the product in place of a site's last node, and what prepares its input in place of the first.

        Products are quantized in the order of their first nodes, so all readers of the prepared input come after it.
        """
        build, before = self._build, self._taken()
        name = f"{site.name}.int8"
        weight = build.tensor(f"{name}.weight", integers)
        weight_scale = build.tensor(f"{name}.weight_scale", scales)
        weight_zero = build.tensor(f"{name}.weight_zero_point", np.zeros(scales.shape, np.int8))
        inputs = [source.integers, weight, source.scale, weight_scale, source.zero_point, weight_zero]
        stored = build.tensor(f"{name}.bias", bias) if bias is not None else ""
        if source.row:
            product = build.add("MatMulIntegerToFloat", inputs, f"{name}.by_row", name=name, domain=MICROSOFT)
            rescaled = f"{name}.rescaled" if stored else site.output
            build.add("Mul", [product, source.row], rescaled, name=f"{name}.rescale")
            if stored:
                build.add("Add", [rescaled, stored], site.output, name=f"{name}.add_bias")
        else:
            inputs += [stored] if stored else []
            build.add("MatMulIntegerToFloat", inputs, site.output, name=name, domain=MICROSOFT)
        for output in site.nodes:
            self._edit.instead(output, ())
        self._edit.instead(site.nodes[0], before)
        self._edit.instead(site.nodes[-1], self._taken())

    def _gather_rows(self, node: onnx.NodeProto, rows: str, scales: str) -> None:
        build, ids, output = self._build, node.input[1], node.output[0]
        # If a product reads the rows, as after DeBERTa-v2's narrower embeddings, its scale already has that name.
        scale = f"{output}.row_scale" if output in self._inputs else f"{output}.scale"
        build.add("Gather", [rows, ids], f"{output}.int8", name=f"{output}.rows", axis=0)
        build.add("Gather", [scales, ids], scale, name=f"{output}.scales", axis=0)
        build.add("Cast", [f"{output}.int8"], f"{output}.float", name=f"{output}.cast", to=TensorProto.FLOAT)
        build.add("Mul", [f"{output}.float", scale], output, name=f"{output}.rescale")
        self._edit.instead(output, self._taken())
