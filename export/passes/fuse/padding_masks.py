"""Finds out what a mask of attention scores does, by running the part of the graph that makes it.

Exporters and versions of transformers write masks in many ways: a product with the lowest float, a choice by Where, an
And of comparisons of positions, gathered by index. What they have in common is their values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from crossrank.export.graph.tools import GraphView, attributes, bytes_of, reads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from crossrank.export.graph.shapes import Shape

_MASK = "attention_mask"
_LOWEST_OF_KEPT = -1e4
"""What is added to the score of a masked token is at most this, after which its weight in the softmax is zero."""

_LONGEST_WINDOW = 1024
_LARGEST_CONSTANT = 4096
_ENDLESS = 1 << 30
_SEED = 7


class PaddingMasks:
    """Says of the tensors of one graph whether they hide padding from attention; each is examined once."""

    def __init__(self, model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> None:
        """Take the graph.

        Args:
            model: the graph.
            shapes: its shapes, from `probe_shapes`.
        """
        self._model = model
        self._shapes = shapes
        self._added: dict[str, float | None] = {}
        self._marks: dict[str, bool | None] = {}

    def added_to_padding(self, name: str) -> float | None:
        """What a mask adds to the scores of padding, if it does nothing else.

        Args:
            name: tensor that is added to scores [batch, heads, queries, keys].

        Returns:
            The added value; None unless it is the same for all keys that are padding and zero for all others, whatever
            the query and the tokens are.
        """
        if name not in self._added:
            self._added[name] = _added_value(_runs(self._model, self._shapes, name))
        return self._added[name]

    def marks_padding(self, name: str) -> bool | None:
        """Whether a boolean tensor that chooses between scores and a constant is true for padding.

        Args:
            name: the condition of a Where over scores [batch, heads, queries, keys].

        Returns:
            True if it is true for keys that are padding and false for all others, False if it is the other way round;
            None if it is neither.
        """
        if name not in self._marks:
            self._marks[name] = _marked(_runs(self._model, self._shapes, name))
        return self._marks[name]


_Runs = list[tuple["NDArray[np.bool_]", "NDArray[Any]"]]


def _added_value(runs: _Runs) -> float | None:
    found: set[float] = set()
    for kept, computed in runs:
        if computed.dtype.kind != "f" or not _is_mask_of_keys(computed, kept):
            return None
        values, expected, rows = _by_query(computed, kept)
        if np.any(values[rows & expected]):
            return None
        found.update(values[rows & ~expected].tolist())
    value = found.pop() if len(found) == 1 else 0.0
    return value if value <= _LOWEST_OF_KEPT else None


def _marked(runs: _Runs) -> bool | None:
    true_for: set[bool] = set()
    for kept, computed in runs:
        if computed.dtype.kind != "b" or not _is_mask_of_keys(computed, kept):
            return None
        values, expected, rows = _by_query(computed, kept)
        if np.array_equal(values[rows], ~expected[rows]):
            true_for.add(True)
        elif np.array_equal(values[rows], expected[rows]):
            true_for.add(False)
        else:
            return None
    return true_for.pop() if len(true_for) == 1 else None


def _is_mask_of_keys(values: NDArray[Any], kept: NDArray[np.bool_]) -> bool:
    batch, sequence = kept.shape
    if values.ndim != 4:  # noqa: PLR2004  pairs, heads, queries, keys
        return False
    return values.shape[0] == batch and values.shape[2] in (1, sequence) and values.shape[3] == sequence


def _by_query(
    values: NDArray[Any], kept: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
    """A mask with a row for each query; which keys are no padding; and which queries are none.

    What padding sees does not matter.
    """
    batch, heads, _, sequence = values.shape
    shape = (batch, heads, kept.shape[1], sequence)
    by_key, by_query = kept[:, np.newaxis, np.newaxis, :], kept[:, np.newaxis, :, np.newaxis]
    return np.broadcast_to(values, shape), np.broadcast_to(by_key, shape), np.broadcast_to(by_query, shape)


def _runs(model: onnx.ModelProto, shapes: Mapping[str, Shape], name: str) -> _Runs:
    """A tensor's values for some batches, each with the mask of the batch; none where it must not be judged by runs."""
    import onnxruntime

    part, given = _part_that_makes(model, shapes, name)
    longest = _longest_window(part)
    if longest is None or _MASK not in {value.name for value in part.graph.input}:
        return []
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(_SEED)
    runs = []
    for lengths in ([7, 4], [1, 9, 5], [2 * longest + 3, 3]):
        kept = np.arange(max(lengths)) < np.asarray(lengths)[:, np.newaxis]
        feeds = {}
        for value in session.get_inputs():
            if value.name in given:
                feeds[value.name] = np.asarray([dim.at(*kept.shape) for dim in given[value.name] if dim], np.int64)
                continue
            tokens = kept if value.name == _MASK else rng.integers(0, 3, kept.shape)
            feeds[value.name] = tokens.astype(np.int32 if value.type == "tensor(int32)" else np.int64)
        runs.append((kept, np.asarray(session.run([name], feeds)[0])))
    return runs


def _part_that_makes(
    model: onnx.ModelProto, shapes: Mapping[str, Shape], name: str
) -> tuple[onnx.ModelProto, dict[str, Shape]]:
    """The part of a graph that one tensor depends on, with that tensor as its output.

    Shapes of tensors are inputs of the part, and returned by their names: they may be those of hidden states, for
    which the part would need the whole model.
    """
    needed = {name}
    nodes: list[onnx.NodeProto] = []
    given: dict[str, Shape] = {}
    for node in reversed(model.graph.node):
        if not needed.intersection(node.output):
            continue
        shape = shapes.get(node.input[0], (None,)) if node.op_type == "Shape" else (None,)
        if None not in shape:
            options = attributes(node)
            given[node.output[0]] = shape[options.get("start", 0) : options.get("end", len(shape))]
            continue
        needed.update(reads(node))
        nodes.append(node)
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    part.graph.name = "mask"
    part.graph.node.extend(reversed(nodes))
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    part.graph.input.extend(value for value in model.graph.input if value.name in needed)
    part.graph.input.extend(
        helper.make_tensor_value_info(output, onnx.TensorProto.INT64, [len(shape)]) for output, shape in given.items()
    )
    part.graph.output.append(onnx.ValueInfoProto(name=name))
    return part, given


def _longest_window(part: onnx.ModelProto) -> int | None:
    """The largest distance between tokens that a part of a graph could compare with; None if that is not known.

    A mask that hides far tokens looks like one of padding alone until a pair is longer than its window. The window is a
    constant of the graph, so pairs longer than every constant show it.
    """
    if any(bytes_of(tensor) > _LARGEST_CONSTANT for tensor in part.graph.initializer):
        return None
    view, longest = GraphView(part.graph), 1
    for name in [*(tensor.name for tensor in part.graph.initializer), *view.producers]:
        value = view.constant(name)
        if value is None:
            continue
        if sum(size > 1 for size in value.shape) > 1:
            return None  # a table of positions
        if value.dtype.kind in "iuf":
            sizes = np.abs(value.astype(np.float64)).reshape(-1)
            # Slices are written with ends far beyond any text, and masks with the lowest float.
            longest = max([longest, *(int(size) for size in sizes if size < _ENDLESS)])
    return longest if longest <= _LONGEST_WINDOW else None
