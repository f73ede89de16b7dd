"""Rewrites float32 products and embedding tables of a graph into their eight-bit forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.passes.quantize_numbers import quantize_columns, quantize_rows
from crossrank.export.passes.quantize_sites import MICROSOFT, attribute, find_sites, find_tables

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx
    from numpy.typing import NDArray

    from crossrank.export.passes.quantize_sites import Site, Table


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
        self._quantized_inputs: dict[str, tuple[str, str, str]] = {}

    def quantize_products(self, keep: Collection[str] = ()) -> list[Site]:
        """Turn every product with a constant matrix into an integer one, except those named in `keep`."""
        sites = [site for site in find_sites(self.model, self.arrays) if site.name not in keep]
        for site in sites:
            if site.kind == "attention":
                self._quantize_attention(site)
            else:
                self._quantize_linear(site)
        return sites

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
        nodes = []
        for index, node in enumerate(graph.node):
            nodes.extend(self._replacement.get(index, [node]))
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

    def _place(self, site: Site, before: list[onnx.NodeProto], product: onnx.NodeProto) -> None:
        """Put the product where the last node was; what prepares its input where the first was.

        Sites come in the order of their first nodes, so what else reads the prepared input stands behind it.
        """
        for index in site.nodes:
            self._replacement[index] = []
        self._replacement[site.nodes[0]].extend(before)
        self._replacement[site.nodes[-1]].append(product)

    def _quantize_input(self, name: str) -> tuple[list[onnx.NodeProto], tuple[str, str, str]]:
        """Quantize an activation once, however many products read it."""
        from onnx import helper

        if name in self._quantized_inputs:
            return [], self._quantized_inputs[name]
        outputs = (f"{name}.uint8", f"{name}.scale", f"{name}.zero_point")
        node = helper.make_node("DynamicQuantizeLinear", [name], list(outputs), name=f"{name}.quantize")
        self._quantized_inputs[name] = outputs
        return [node], outputs

    def _quantize_weight(self, site: Site) -> tuple[str, str, str]:
        weight = self.arrays[site.weight]
        integers, scale = quantize_columns(weight.T if site.transposed else weight)
        return (
            self.constant(f"{site.weight}.int8", np.ascontiguousarray(integers)),
            self.constant(f"{site.weight}.scale", scale),
            self.constant(f"{site.weight}.zero_point", np.zeros(scale.shape, np.int8)),
        )

    def _quantize_linear(self, site: Site) -> None:
        from onnx import helper

        quantize, (integers, scale, zero) = self._quantize_input(site.input)
        weight, weight_scale, weight_zero = self._quantize_weight(site)
        inputs = [integers, weight, scale, weight_scale, zero, weight_zero]
        if site.bias:
            inputs.append(site.bias)
        node = helper.make_node(
            "MatMulIntegerToFloat", inputs, [site.output], name=f"{site.name}.int8", domain=MICROSOFT
        )
        self._place(site, quantize, node)

    def _quantize_attention(self, site: Site) -> None:
        from onnx import helper

        original = self.model.graph.node[site.nodes[0]]
        quantize, (integers, scale, zero) = self._quantize_input(site.input)
        weight, weight_scale, weight_zero = self._quantize_weight(site)
        mask = original.input[3] if len(original.input) > 3 else ""  # noqa: PLR2004
        node = helper.make_node(
            "QAttention",
            [integers, weight, site.bias, scale, weight_scale, mask, zero, weight_zero],
            [site.output],
            name=f"{site.name}.int8",
            domain=MICROSOFT,
        )
        node.attribute.append(helper.make_attribute("num_heads", attribute(original, "num_heads", 0)))
        for name in ("scale", "mask_filter_value"):
            if (value := attribute(original, name, None)) is not None:
                node.attribute.append(helper.make_attribute(name, value))
        self._place(site, quantize, node)

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
