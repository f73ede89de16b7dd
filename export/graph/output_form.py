"""The form of a graph's output, found by running it, and made float32 [batch, labels] where that is a cheap step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.graph.interface import input_names
from crossrank.export.graph.tools import skeleton

if TYPE_CHECKING:
    import onnx

_RUNS = ((1, 8), (1, 11), (3, 8), (2, 11))
"""Batch and length of each run: the first two have one pair, as graphs that take no more are run."""

_FLOATS = (np.float16, np.float32, np.float64)
_RANK = 2


@dataclass(frozen=True)
class OutputForm:
    """What a graph gives.

    Attributes:
        model: the graph, whose output is float32 [batch, labels] now.
        labels: columns of it.
        one_pair_only: whether it runs for one pair and fails for several.
        changed: what was appended, in words; "" where nothing was.
    """

    model: onnx.ModelProto
    labels: int
    one_pair_only: bool
    changed: str = ""


def find_output_form(model: onnx.ModelProto) -> OutputForm:
    """Run a graph on several shapes, and append a cast or a reshape where its output needs one.

    Args:
        model: with integer inputs [batch, sequence] and one output. It is changed in place.

    Raises:
        UnsupportedCheckpointError: it does not run, runs at one length only, or does not give so many floats a pair.
    """
    results = _run(model)
    one_pair_only = any(result is None for result in results[2:])
    outputs = [(batch, result) for (batch, _), result in zip(_RUNS, results, strict=True) if result is not None]
    kinds = {result.dtype.type for _, result in outputs}
    shapes = [(batch, result.shape) for batch, result in outputs]
    # What a pair has is the same in every run; [batch] has one number a pair.
    labels = {shape[1:] for _, shape in shapes}
    if not kinds <= set(_FLOATS) or len(labels) != 1 or any(not shape or shape[0] != batch for batch, shape in shapes):
        shown = ", ".join(f"{list(shape)} for {batch} pairs" for batch, shape in shapes)
        kind = " and ".join(sorted(np.dtype(kind).name for kind in kinds))
        raise UnsupportedCheckpointError(
            f"the graph's output {model.graph.output[0].name!r} is {kind} {shown}; expected floats [batch, labels]"
        )
    (rest,) = labels
    count = int(np.prod(rest, dtype=np.int64)) if rest else 1
    changed = []
    if kinds != {np.float32}:
        changed.append(f"a cast from {np.dtype(next(iter(kinds))).name} to float32")
    if len(rest) != 1:
        changed.append(f"a reshape from {['batch', *rest]} to ['batch', {count}]")
    _set_output(model, count, cast=kinds != {np.float32}, reshape=len(rest) != 1)
    return OutputForm(model, count, one_pair_only, " and ".join(changed))


def pick_column(model: onnx.ModelProto, column: int) -> None:
    """Leave one column of a graph's output. Changes the graph in place.

    Args:
        model: with one float32 output [batch, labels].
        column: its index.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    source, name = graph.output[0].name, _unused(model, "picked")
    parts = {"starts": [column], "ends": [column + 1], "axes": [1]}
    inputs = [_unused(model, f"picked/{part}") for part in parts]
    for constant, values in zip(inputs, parts.values(), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype=np.int64), constant))
    graph.node.append(helper.make_node("Slice", [source, *inputs], [name], name=name))
    _declare(model, name, 1)


def _set_output(model: onnx.ModelProto, labels: int, *, cast: bool, reshape: bool) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    name = graph.output[0].name
    if cast:
        target = _unused(model, "logits/float32")
        graph.node.append(helper.make_node("Cast", [name], [target], name=target, to=TensorProto.FLOAT))
        name = target
    if reshape:
        target, shape = _unused(model, "logits/columns"), _unused(model, "logits/shape")
        graph.initializer.append(numpy_helper.from_array(np.asarray([-1, labels], dtype=np.int64), shape))
        graph.node.append(helper.make_node("Reshape", [name, shape], [target], name=target))
        name = target
    _declare(model, name, labels)


def _declare(model: onnx.ModelProto, name: str, labels: int) -> None:
    from onnx import TensorProto, helper

    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", labels]))


def _unused(model: onnx.ModelProto, wanted: str) -> str:
    taken = {name for node in model.graph.node for name in node.output} | {t.name for t in model.graph.initializer}
    while wanted in taken:
        wanted += "_"
    return wanted


def _run(model: onnx.ModelProto) -> list[np.ndarray[Any, Any] | None]:
    """The output for each of the runs; None for those of several pairs that fail."""
    session, why = _session(skeleton(model))
    results: list[np.ndarray[Any, Any] | None] = []
    for batch, length in _RUNS:
        feeds = {}
        for item in session.get_inputs():
            kind = np.int32 if item.type == "tensor(int32)" else np.int64
            feeds[item.name] = np.full((batch, length), int("mask" in item.name), dtype=kind)
        try:
            results.append(np.asarray(session.run(None, feeds)[0]))
        except Exception as error:
            # onnxruntime's errors have no common base but Exception.
            why, result = error, None
            if batch == 1:
                raise UnsupportedCheckpointError(_fixed(model, batch, length, results, why)) from error
            results.append(result)
    return results


def _fixed(model: onnx.ModelProto, batch: int, length: int, before: list[Any], error: object) -> str:
    names = ", ".join(input_names(model))
    if before:
        return (
            f"the graph runs on {names} of shape [1, {_RUNS[0][1]}] and not on [{batch}, {length}], although it "
            f"declares both axes open: a length was fixed when it was traced; export the model again with dynamic "
            f"axes ({error})"
        )
    return f"onnxruntime cannot run the graph on {names} of shape [{batch}, {length}]: {error}"


def _session(model: onnx.ModelProto) -> tuple[Any, Exception | None]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        content = model.SerializeToString()
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]), None
    except Exception as error:
        raise UnsupportedCheckpointError(f"onnxruntime cannot load the graph: {error}") from error
