"""How fast this machine multiplies matrices through onnxruntime: the ceiling for a model made of such products.

One graph of one product a shape, with constant weights, as the model has them; run the way the engine runs: a session
whose operators use one thread, called from as many threads as there are cores, each with a matrix of its own.
"""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crossrank.engine.runtime_build import load_onnxruntime
from crossrank.models.errors import MissingDependencyError

if TYPE_CHECKING:
    from crossrank.models.manifest import Architecture

ProductPrecision = Literal["fp32", "int8"]

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
        """Multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns


def model_shapes(architecture: Architecture, tokens: int) -> list[ProductShape]:
    """Shapes of a layer's products at so many rows: output, packed Q K V, and the two of the feed-forward block."""
    hidden, inner = architecture.hidden_size, architecture.intermediate_size
    pairs = [(hidden, hidden), (hidden, 3 * hidden), (hidden, inner), (inner, hidden)]
    return [ProductShape(tokens, rows, columns) for rows, columns in pairs]


def product_graph(shape: ProductShape, precision: ProductPrecision, *, seed: int = 0) -> bytes:
    """A serialized graph of one product, with random constant weights.

    float32 is a MatMul. int8 is onnxruntime's MatMulIntegerToFloat: unsigned 8-bit activations that are quantized
    already, signed 7-bit weights with a scale a column, float32 out.

    Raises:
        MissingDependencyError: the onnx package is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise MissingDependencyError(
            "the roofline builds small graphs with the onnx package; install it with pip install 'crossrank[onnx]'"
        ) from error
    random = np.random.default_rng(seed)
    size = (shape.inner, shape.columns)
    constants: dict[str, Any]
    if precision == "fp32":
        constants = {"w": random.standard_normal(size, dtype=np.float32)}
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
    kind = TensorProto.FLOAT if precision == "fp32" else TensorProto.UINT8
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", kind, [shape.rows, shape.inner])],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [shape.rows, shape.columns])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    onnx.checker.check_model(onnx.load_from_string(model))
    return model


class ProductMeter:
    """Measures the rate of one product on all cores; sessions are made once and used for every measurement."""

    def __init__(self, shape: ProductShape, precision: ProductPrecision, *, threads: int) -> None:
        """Load the graph.

        Args:
            shape: of the product.
            precision: of its factors.
            threads: how many products go on at once.

        Raises:
            MissingDependencyError: onnx or onnxruntime is not installed.
        """
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        graph = product_graph(shape, precision)
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.shape = shape
        self._bindings = [self._binding(onnxruntime, precision, seed) for seed in range(threads)]

    def _binding(self, onnxruntime: Any, precision: ProductPrecision, seed: int) -> Any:
        """Inputs and outputs of one thread, bound once: a call then costs little besides the product."""
        random = np.random.default_rng(seed)
        size = (self.shape.rows, self.shape.inner)
        if precision == "fp32":
            values: Any = random.standard_normal(size, dtype=np.float32)
        else:
            values = random.integers(0, 256, size, dtype=np.uint8)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("a", onnxruntime.OrtValue.ortvalue_from_numpy(values))
        output = np.empty((self.shape.rows, self.shape.columns), dtype=np.float32)
        binding.bind_ortvalue_output("c", onnxruntime.OrtValue.ortvalue_from_numpy(output))
        return binding

    def rate(self, seconds: float) -> float:
        """Operations a second of all threads together, measured over about so many seconds."""
        counts = [0] * len(self._bindings)
        spans = [0.0] * len(self._bindings)
        barrier = threading.Barrier(len(self._bindings))

        def work(place: int) -> None:
            binding = self._bindings[place]
            self._session.run_with_iobinding(binding)
            barrier.wait()
            started = time.perf_counter()
            while spans[place] < seconds:
                self._session.run_with_iobinding(binding)
                counts[place] += 1
                spans[place] = time.perf_counter() - started

        threads = [threading.Thread(target=work, args=(place,)) for place in range(len(self._bindings))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(count / span for count, span in zip(counts, spans, strict=True)) * self.shape.operations


class Ceiling:
    """The ceiling over all products of a model at one number of tokens, measured in several rounds."""

    def __init__(self, architecture: Architecture, tokens: int, precision: ProductPrecision, *, threads: int) -> None:
        """Load a meter for each shape; see `ProductMeter`."""
        self._meters = [ProductMeter(shape, precision, threads=threads) for shape in model_shapes(architecture, tokens)]
        self._rates: list[list[float]] = [[] for _ in self._meters]

    def measure(self, seconds: float) -> None:
        """One round: every shape for so many seconds."""
        for meter, rates in zip(self._meters, self._rates, strict=True):
            rates.append(meter.rate(seconds))

    @property
    def rate(self) -> float:
        """Operations a second: the median over shapes of the median over rounds."""
        return statistics.median(self.shape_rates().values())

    def shape_rates(self) -> dict[str, float]:
        """Median rate of each shape, by its name such as '128x384x1536'."""
        return {
            f"{meter.shape.rows}x{meter.shape.inner}x{meter.shape.columns}": statistics.median(rates)
            for meter, rates in zip(self._meters, self._rates, strict=True)
        }
