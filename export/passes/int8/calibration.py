"""Runs a float32 graph over calibration pairs and keeps what the products with constant matrices read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

MAX_ROWS = 16384
MAX_BYTES = 1_500_000_000
_SEED = 20240607


@dataclass(frozen=True)
class Activation:
    """What was seen of one tensor.

    Attributes:
        rows: a sample of its rows, float32 [samples, channels].
        low: least value of each channel over all rows seen, [channels].
        high: largest value of each channel, [channels].
        one_row_a_pair: whether every pair gave a single row, as behind the pruned last layer.
    """

    rows: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    one_row_a_pair: bool


def session(model: onnx.ModelProto) -> Any:
    """A session on one thread, which makes its figures the same every time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],
    )


def score(model: onnx.ModelProto, feeds: Sequence[Mapping[str, NDArray[Any]]]) -> NDArray[np.float32]:
    """First logit of each pair, one pair a run."""
    runner = session(model)
    names = {item.name for item in runner.get_inputs()}
    return np.array(
        [runner.run(None, {key: value for key, value in feed.items() if key in names})[0].ravel()[0] for feed in feeds],
        np.float32,
    )


def observe(
    model: onnx.ModelProto, names: Iterable[str], feeds: Sequence[Mapping[str, NDArray[Any]]], channels: int
) -> dict[str, Activation]:
    """Run a graph over pairs and keep a sample of tensors.

    Args:
        model: the float32 graph; not changed.
        names: tensors to look at, [..., channels] each.
        feeds: one pair each.
        channels: of all the tensors together; bounds the sample of a large model.

    Returns:
        What was seen of each tensor. The same input gives the same sample.
    """
    import onnx
    from onnx import TensorProto, helper

    wanted = list(dict.fromkeys(names))
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    there = {output.name for output in tapped.graph.output}
    tapped.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted if name not in there
    )
    runner = session(tapped)
    inputs = {item.name for item in runner.get_inputs()}
    generator = np.random.default_rng(_SEED)
    quota = max(1, min(MAX_ROWS, MAX_BYTES // (4 * max(channels, 1))) // max(len(feeds), 1))
    collected: dict[str, list[NDArray[np.float32]]] = {name: [] for name in wanted}
    low: dict[str, NDArray[np.float32]] = {}
    high: dict[str, NDArray[np.float32]] = {}
    single = dict.fromkeys(wanted, True)
    for feed in feeds:
        arrays = runner.run(wanted, {key: value for key, value in feed.items() if key in inputs})
        for name, array in zip(wanted, arrays, strict=True):
            rows = array.reshape(-1, array.shape[-1])
            low[name] = np.minimum(low.get(name, rows[0]), rows.min(axis=0))
            high[name] = np.maximum(high.get(name, rows[0]), rows.max(axis=0))
            single[name] &= len(rows) == 1
            chosen = generator.permutation(len(rows))[:quota]
            collected[name].append(rows[np.sort(chosen)])
    return {name: Activation(np.concatenate(collected[name]), low[name], high[name], single[name]) for name in wanted}
