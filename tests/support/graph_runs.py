"""Runs graphs on made-up batches, for tests of graph passes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

LOWEST_ID, HIGHEST_ID = 5, 130  # ordinary tokens in every tiny vocabulary


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session with the optimizations the engine loads graphs with, which decide over the last bits of scores."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],
    )


def make_feeds(model: onnx.ModelProto, lengths: list[int], *, seed: int = 0) -> dict[str, np.ndarray]:
    """A right-padded batch of random tokens, one row for each length."""
    rng = np.random.default_rng(seed)
    shape = (len(lengths), max(lengths))
    mask = np.arange(shape[1]) < np.asarray(lengths)[:, None]
    segments = np.arange(shape[1]) >= np.asarray(lengths)[:, None] // 3
    feeds = {
        "input_ids": np.where(mask, rng.integers(LOWEST_ID, HIGHEST_ID, shape), 1),
        "attention_mask": mask,
        "token_type_ids": segments & mask,
    }
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    return {name: feeds[name].astype(onnx.helper.tensor_dtype_to_np_dtype(dtype)) for name, dtype in types.items()}


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return session_of(model).run(["logits"], feeds)[0]
