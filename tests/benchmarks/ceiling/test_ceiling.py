"""The matrix-product ceiling, and the share of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tiny_checkpoints import make_texts

from crossrank.benchmarks.ceiling.matrix_products import ProductShape, model_shapes, product_graph
from crossrank.benchmarks.ceiling.product_rates import Ceiling, ProductMeter
from crossrank.benchmarks.ceiling.share import measure_ceiling
from crossrank.benchmarks.harness.passages import Passages
from crossrank.benchmarks.harness.workloads import WorkloadMaker
from crossrank.models.manifest import Architecture

SHAPE = Architecture(model_type="bert", hidden_size=16, intermediate_size=64, num_hidden_layers=2)


def test_shapes_are_those_of_a_layer():
    assert [(shape.rows, shape.inner, shape.columns) for shape in model_shapes(SHAPE, 7)] == [
        (7, 16, 16),
        (7, 16, 48),
        (7, 16, 64),
        (7, 64, 16),
    ]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_graph_computes_the_product(precision):
    import onnx
    import onnxruntime
    from onnx import numpy_helper

    graph = product_graph(ProductShape(3, 8, 4), precision)
    weights = {item.name: numpy_helper.to_array(item) for item in onnx.load_from_string(graph).graph.initializer}
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    tolerance = 1e-5
    if precision == "fp32":
        left = np.arange(24, dtype=np.float32).reshape(3, 8)
        expected = left @ weights["w"]
    elif precision == "fp16":
        left = np.arange(24, dtype=np.float16).reshape(3, 8)
        expected = left.astype(np.float32) @ weights["w"].astype(np.float32)
        tolerance = 1e-2
    else:
        left = np.arange(100, 124, dtype=np.uint8).reshape(3, 8)
        products = (left.astype(np.int32) - int(weights["a_zero"])) @ weights["w"].astype(np.int32)
        expected = products * weights["a_scale"] * weights["w_scale"]
    (product,) = session.run(None, {"a": left})
    assert product.dtype == (np.float16 if precision == "fp16" else np.float32)
    np.testing.assert_allclose(product, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_rate_counts_the_products_of_all_threads(precision):
    shape = ProductShape(8, 16, 16)
    assert shape.operations == 4096
    assert ProductMeter(shape, precision, threads=2).rate(0.01) > 0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_meter_for_devices_counts_products_of_matrices_that_stay_on_the_device(precision):
    # The device is the CPU here; it has not been run on a GPU yet.
    meter = ProductMeter(ProductShape(8, 16, 16), precision, runs_per_wait=20)
    assert meter.rate(0.01) > 0
    (binding,) = meter.bindings
    (result,) = binding.copy_outputs_to_cpu()
    assert result.shape == (8, 16)
    assert np.abs(result).max() > 0.1, "the product was computed"


def test_the_ceiling_is_the_median_over_shapes_of_the_median_over_rounds():
    ceiling = Ceiling(SHAPE, 4, "fp32", threads=1)
    for _ in range(3):
        ceiling.measure(0.002)
    rates = ceiling.shape_rates()
    assert list(rates) == ["4x16x16", "4x16x48", "4x16x64", "4x64x16"]
    assert ceiling.rate == pytest.approx(sorted(rates.values())[1] / 2 + sorted(rates.values())[2] / 2)


def test_a_run_reports_operations_times_and_share(tiny_artifact, monkeypatch):
    monkeypatch.setattr("crossrank.benchmarks.ceiling.share._PRODUCT_SECONDS", 0.005)
    passages = Passages("made", "the river", tuple(make_texts(30)))
    maker = WorkloadMaker(passages, tiny_artifact / "tokenizer.json", max_length=64)
    artifacts = {"fp32": tiny_artifact, "int8": tiny_artifact}
    setup = SimpleNamespace(maker=maker, artifacts=artifacts, subject=SimpleNamespace(provider="cpu"))
    parts = list(measure_ceiling(setup, print, rounds=1, pair_tokens=(16, 32)))
    assert [len(part.ceiling) for part in parts] == [1, 2, 3, 4], "each row is kept when it is measured"
    assert [(row.precision, row.pair_tokens) for row in parts[-1].ceiling] == [
        ("fp32", 16),
        ("fp32", 32),
        ("int8", 16),
        ("int8", 32),
    ]
    for row in parts[-1].ceiling:
        assert row.reached_operations_per_second == pytest.approx(row.operations_per_pair / row.seconds_per_pair)
        assert row.share == pytest.approx(row.reached_operations_per_second / row.ceiling_operations_per_second)
        assert len(row.shape_operations_per_second) == 4
