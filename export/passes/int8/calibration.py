"""Runs a float32 graph on calibration pairs and samples the activations that products with constant matrices read."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.graph import files
from crossrank.export.graph.files import weight_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

MAX_ROWS = 16384
MAX_BYTES = 1_500_000_000
_SEED = 20240607


@dataclass(frozen=True)
class Activation:
    """Statistics of one activation over the calibration pairs.

    Attributes:
        rows: a sample of its rows, float32 [samples, channels].
        low: lowest value of each channel over all rows, [channels].
        high: highest value of each channel over all rows, [channels].
        one_row_a_pair: whether every pair had a single row, as after the pruned last layer.
    """

    rows: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    one_row_a_pair: bool


def session(model: onnx.ModelProto) -> Any:
    """A session on one thread, so that its results are the same every time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    load = partial(
        onnxruntime.InferenceSession,
        sess_options=options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],
    )
    if weight_bytes(model) < files.EXTERNAL_DATA_FROM:
        return load(model.SerializeToString())
    with tempfile.TemporaryDirectory(prefix="crossrank-") as folder:
        files.save_graph(model, Path(folder), "model.onnx")
        return load(str(Path(folder) / "model.onnx"))


def score(model: onnx.ModelProto, feeds: Sequence[Mapping[str, NDArray[Any]]]) -> NDArray[np.float32]:
    """First logit of each pair, float32 [pairs]; every pair runs alone."""
    runner = session(model)
    names = {item.name for item in runner.get_inputs()}
    return np.array(
        [runner.run(None, {key: value for key, value in feed.items() if key in names})[0].ravel()[0] for feed in feeds],
        np.float32,
    )


def observe(
    model: onnx.ModelProto, names: Iterable[str], feeds: Sequence[Mapping[str, NDArray[Any]]], channels: int
) -> dict[str, Activation]:
    """Run a graph on pairs and sample some of its tensors.

    Args:
        model: the float32 graph; not changed.
        names: tensors to sample, [..., channels] each.
        feeds: inputs of one pair each.
        channels: sum of the channels of all the tensors, which limits the sample of a large model.

    Returns:
        The statistics of each tensor. The same input gives the same sample.
    """
    import onnx
    from onnx import TensorProto, helper

    sampled = list(dict.fromkeys(names))
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    outputs = {output.name for output in extended.graph.output}
    extended.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sampled if name not in outputs
    )
    runner = session(extended)
    inputs = {item.name for item in runner.get_inputs()}
    generator = np.random.default_rng(_SEED)
    quota = max(1, min(MAX_ROWS, MAX_BYTES // (4 * max(channels, 1))) // max(len(feeds), 1))
    collected: dict[str, list[NDArray[np.float32]]] = {name: [] for name in sampled}
    low: dict[str, NDArray[np.float32]] = {}
    high: dict[str, NDArray[np.float32]] = {}
    single = dict.fromkeys(sampled, True)
    for feed in feeds:
        arrays = runner.run(sampled, {key: value for key, value in feed.items() if key in inputs})
        for name, array in zip(sampled, arrays, strict=True):
            rows = array.reshape(-1, array.shape[-1])
            low[name] = np.minimum(low.get(name, rows[0]), rows.min(axis=0))
            high[name] = np.maximum(high.get(name, rows[0]), rows.max(axis=0))
            single[name] &= len(rows) == 1
            chosen = generator.permutation(len(rows))[:quota]
            collected[name].append(rows[np.sort(chosen)])
    return {name: Activation(np.concatenate(collected[name]), low[name], high[name], single[name]) for name in sampled}
