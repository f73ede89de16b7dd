"""How fast this machine multiplies matrices through onnxruntime: the ceiling for a model made of such products.

Each shape of product is a graph of its own, with constant weights as in the model, and is run as the engine runs a
model. On the CPU: a session whose operators use one thread, called from as many threads as there are cores, each with
its own input matrix. On CUDA: one session, one run after the other, with all matrices on the device.
"""

from __future__ import annotations

import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.benchmarks.ceiling.matrix_products import model_shapes, product_graph
from crossrank.engine.runtime.cuda.options import cuda_provider_options
from crossrank.engine.runtime.onnxruntime_build import load_onnxruntime
from crossrank.engine.runtime.providers import provider_name
from crossrank.errors import ProviderError

if TYPE_CHECKING:
    from crossrank.benchmarks.ceiling.matrix_products import ProductPrecision, ProductShape
    from crossrank.models.manifest import Architecture, Provider

_TYPES: dict[ProductPrecision, Any] = {"fp32": np.float32, "fp16": np.float16, "int8": np.float32}
"""Type of the results; of the factors too, except for int8."""
_RUNS_PER_WAIT = 20
"""Number of products that are launched on a device before it is waited for."""


class ProductMeter:
    """Measures the rate of one product on all cores, with one session for all measurements."""

    def __init__(self, shape: ProductShape, precision: ProductPrecision, *, threads: int) -> None:
        """Load the graph.

        Args:
            shape: of the product.
            precision: of its factors.
            threads: how many products are computed at once.

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
        """Inputs and outputs of one thread, bound once, so that a call costs little besides the product."""
        random = np.random.default_rng(seed)
        size = (self.shape.rows, self.shape.inner)
        if precision != "int8":
            values: Any = random.standard_normal(size, dtype=np.float32).astype(_TYPES[precision])
        else:
            values = random.integers(0, 256, size, dtype=np.uint8)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("a", onnxruntime.OrtValue.ortvalue_from_numpy(values))
        output = np.empty((self.shape.rows, self.shape.columns), dtype=_TYPES[precision])
        binding.bind_ortvalue_output("c", onnxruntime.OrtValue.ortvalue_from_numpy(output))
        return binding

    def rate(self, seconds: float) -> float:
        """Operations per second of all threads together.

        Args:
            seconds: how long to measure.
        """
        counts = [0] * len(self._bindings)
        spans = [0.0] * len(self._bindings)
        barrier = threading.Barrier(len(self._bindings))

        def work(index: int) -> None:
            binding = self._bindings[index]
            self._session.run_with_iobinding(binding)
            barrier.wait()
            started = time.perf_counter()
            while spans[index] < seconds:
                self._session.run_with_iobinding(binding)
                counts[index] += 1
                spans[index] = time.perf_counter() - started

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(self._bindings))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(count / span for count, span in zip(counts, spans, strict=True)) * self.shape.operations


class DeviceProductMeter:
    """Measures the rate of one product on a device, with factors and result in its memory. Not run on a GPU yet."""

    def __init__(self, shape: ProductShape, precision: ProductPrecision, *, provider: Provider, device: int) -> None:
        """Load the graph and put a matrix on the device.

        Args:
            shape: of the product.
            precision: of its factors.
            provider: execution provider, already probed.
            device: CUDA device id.

        Raises:
            MissingDependencyError: onnx or onnxruntime is not installed.
            ProviderError: onnxruntime placed the product elsewhere.
        """
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        name = provider_name(provider)
        settings = cuda_provider_options(device, memory_limit=None, capture=False) if provider == "cuda" else {}
        self._session = onnxruntime.InferenceSession(
            product_graph(shape, precision), options, providers=[(name, settings)]
        )
        if self._session.get_providers()[0] != name:
            raise ProviderError(f"onnxruntime put a product on {self._session.get_providers()[0]}; {name} expected")
        self.shape = shape
        random = np.random.default_rng(0)
        values = random.standard_normal((shape.rows, shape.inner), dtype=np.float32).astype(_TYPES[precision])
        location = (provider, device)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input("a", onnxruntime.OrtValue.ortvalue_from_numpy(values, *location))
        result = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            [shape.rows, shape.columns], _TYPES[precision], *location
        )
        self._binding.bind_ortvalue_output("c", result)
        self._options = onnxruntime.RunOptions()
        # The device is not waited for after each run, so that a product is launched while the one before it runs.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def rate(self, seconds: float) -> float:
        """Operations per second.

        Args:
            seconds: how long to measure.
        """
        self._series()
        count, span = 0, 0.0
        started = time.perf_counter()
        while span < seconds:
            self._series()
            count += _RUNS_PER_WAIT
            span = time.perf_counter() - started
        return count / span * self.shape.operations

    def _series(self) -> None:
        for _ in range(_RUNS_PER_WAIT):
            self._session.run_with_iobinding(self._binding, self._options)
        self._binding.synchronize_outputs()


class Ceiling:
    """The ceiling over all products of a model at one number of tokens, measured in several rounds."""

    def __init__(
        self,
        architecture: Architecture,
        tokens: int,
        precision: ProductPrecision,
        *,
        threads: int,
        provider: Provider = "cpu",
        device: int = 0,
    ) -> None:
        """Load a meter for each shape.

        Args:
            architecture: of the model whose products are measured.
            tokens: rows of the products: tokens of a pair on the CPU, of a run on CUDA.
            precision: of the factors.
            threads: how many products are computed at once on the CPU; see `ProductMeter`.
            provider: execution provider.
            device: CUDA device id.

        Raises:
            MissingDependencyError: onnx or onnxruntime is not installed.
            ProviderError: onnxruntime placed a product elsewhere.
        """
        shapes = model_shapes(architecture, tokens)
        self._meters: list[ProductMeter | DeviceProductMeter]
        if provider == "cpu":
            self._meters = [ProductMeter(shape, precision, threads=threads) for shape in shapes]
        else:
            self._meters = [DeviceProductMeter(shape, precision, provider=provider, device=device) for shape in shapes]
        self._rates: list[list[float]] = [[] for _ in self._meters]

    def measure(self, seconds: float) -> float:
        """Measure one round and return the median rate of the shapes.

        Args:
            seconds: how long to measure each shape.
        """
        for meter, rates in zip(self._meters, self._rates, strict=True):
            rates.append(meter.rate(seconds))
        return statistics.median(rates[-1] for rates in self._rates)

    @property
    def rate(self) -> float:
        """Operations per second: the median over shapes of the median over rounds."""
        return statistics.median(self.shape_rates().values())

    def shape_rates(self) -> dict[str, float]:
        """Median rate of each shape, by its name such as '128x384x1536'."""
        return {
            f"{meter.shape.rows}x{meter.shape.inner}x{meter.shape.columns}": statistics.median(rates)
            for meter, rates in zip(self._meters, self._rates, strict=True)
        }
