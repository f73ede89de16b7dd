"""How fast this machine multiplies matrices through onnxruntime: the ceiling for a model made of such products.

Each shape of product is a graph of its own, with constant weights as in the model, and is run as the engine runs a
model. On the CPU: a session whose operators use one thread, called from as many threads as there are cores, each with
its own input matrix. On CUDA: one session, one run after the other, with all matrices on the device.
"""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
    """Measures the rate of one product, with one session and matrices that are bound once for all measurements."""

    def __init__(
        self,
        shape: ProductShape,
        precision: ProductPrecision,
        *,
        threads: int = 1,
        provider: Provider = "cpu",
        device: int = 0,
        runs_per_wait: int = 1,
    ) -> None:
        """Load the graph and put the matrices where they are used.

        Args:
            shape: of the product.
            precision: of its factors.
            threads: how many products are computed at once, each on a matrix of its own.
            provider: execution provider, already probed.
            device: CUDA device id.
            runs_per_wait: products that are launched before the device is waited for; 1 waits for each. More than one
                has not been run on a GPU yet.

        Raises:
            MissingDependencyError: onnx or onnxruntime is not installed.
            ProviderError: onnxruntime placed the product elsewhere.
        """
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        name = provider_name(provider)
        settings = cuda_provider_options(device, memory_limit=None, capture=False) if provider == "cuda" else {}
        graph = product_graph(shape, precision)
        self._session = onnxruntime.InferenceSession(graph, options, providers=[(name, settings)])
        if self._session.get_providers()[0] != name:
            raise ProviderError(f"onnxruntime put a product on {self._session.get_providers()[0]}; {name} expected")
        self.shape = shape
        self._runs_per_wait = runs_per_wait
        self._run_options = onnxruntime.RunOptions()
        if runs_per_wait > 1:
            # The device is not waited for after each run, so that a product is launched while the one before it runs.
            self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        location = (provider, device)
        self.bindings = [self._binding(onnxruntime.OrtValue, precision, seed, location) for seed in range(threads)]

    def _binding(self, values: Any, precision: ProductPrecision, seed: int, location: tuple[Provider, int]) -> Any:
        """Input and output of one thread, bound once, so that a call costs little besides the product."""
        random = np.random.default_rng(seed)
        size = (self.shape.rows, self.shape.inner)
        if precision == "int8":
            factor: Any = random.integers(0, 256, size, dtype=np.uint8)
        else:
            factor = random.standard_normal(size, dtype=np.float32).astype(_TYPES[precision])
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("a", values.ortvalue_from_numpy(factor, *location))
        result_size = [self.shape.rows, self.shape.columns]
        result = values.ortvalue_from_shape_and_type(result_size, _TYPES[precision], *location)
        binding.bind_ortvalue_output("c", result)
        return binding

    def rate(self, seconds: float) -> float:
        """Operations per second of all threads together.

        Args:
            seconds: how long to measure.
        """
        barrier = threading.Barrier(len(self.bindings))

        def rate_of(binding: Any) -> float:
            self._series(binding)
            barrier.wait()
            count, span, started = 0, 0.0, time.perf_counter()
            while span < seconds:
                self._series(binding)
                count += self._runs_per_wait
                span = time.perf_counter() - started
            return count / span

        with ThreadPoolExecutor(len(self.bindings)) as pool:
            return sum(pool.map(rate_of, self.bindings)) * self.shape.operations

    def _series(self, binding: Any) -> None:
        for _ in range(self._runs_per_wait):
            self._session.run_with_iobinding(binding, self._run_options)
        if self._runs_per_wait > 1:
            binding.synchronize_outputs()


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
        meter = partial(ProductMeter, precision=precision, threads=threads)
        if provider != "cpu":
            meter = partial(
                ProductMeter, precision=precision, provider=provider, device=device, runs_per_wait=_RUNS_PER_WAIT
            )
        self._meters = [meter(shape) for shape in shapes]
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
