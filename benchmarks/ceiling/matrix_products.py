"""The matrix products of a model as graphs of one product each; the ceiling is measured with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crossrank.evaluation.dependencies import require_onnx

if TYPE_CHECKING:
    from crossrank.models.manifest import Architecture

ProductPrecision = Literal["fp32", "fp16", "int8"]

_OPSET = 17
_CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class ProductShape:
    """A product of (rows x inner) with constant (inner x columns)."""

    rows: int
    inner: int
    columns: int

    @property
    def operations(self) -> int:
        """Number of multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns


def model_shapes(architecture: Architecture, tokens: int) -> list[ProductShape]:
    """Shapes of a layer's products: attention output, Q, K and V in one, and the two of the feed-forward block.

    Args:
        architecture: hidden and intermediate size.
        tokens: rows of each product.
    """
    hidden, inner = architecture.hidden_size, architecture.intermediate_size
    pairs = [(hidden, hidden), (hidden, 3 * hidden), (hidden, inner), (inner, hidden)]
    return [ProductShape(tokens, rows, columns) for rows, columns in pairs]


def product_graph(shape: ProductShape, precision: ProductPrecision, *, seed: int = 0) -> bytes:
    """A serialized graph of one product, with random constant weights.

    In float32 and float16 it is a MatMul whose input and output have that type. In int8 it is onnxruntime's
    MatMulIntegerToFloat: unsigned 8-bit activations, already quantized, times signed 7-bit weights with one scale for
    each column; the output is float32.

    Args:
        shape: of the product.
        precision: of the factors.
        seed: of the weights.

    Raises:
        MissingDependencyError: the onnx package is not installed.
    """
    require_onnx()
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)
    size = (shape.inner, shape.columns)
    constants: dict[str, Any]
    if precision != "int8":
        # Divided by the root of the inner size, so that float16 products stay far below its largest number.
        weights = random.standard_normal(size, dtype=np.float32) / shape.inner**0.5
        constants = {"w": weights.astype(np.float16 if precision == "fp16" else np.float32)}
        node = helper.make_node("MatMul", ["a", "w"], ["c"])
    else:
        constants = {
            "w": random.integers(-64, 64, size, dtype=np.int8),
            "a_scale": np.array(0.01, dtype=np.float32),
            "w_scale": random.uniform(1e-3, 2e-3, shape.columns).astype(np.float32),
            "a_zero": np.array(128, dtype=np.uint8),
        }
        inputs = ["a", "w", "a_scale", "w_scale", "a_zero"]
        node = helper.make_node("MatMulIntegerToFloat", inputs, ["c"], domain=_CONTRIB)
    input_type = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "int8": TensorProto.UINT8}[precision]
    output_type = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", input_type, [shape.rows, shape.inner])],
        [helper.make_tensor_value_info("c", output_type, [shape.rows, shape.columns])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    onnx.checker.check_model(onnx.load_from_string(model))
    return model
