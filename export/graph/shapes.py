"""Determines the shape of every tensor of a graph as products of batch size and sequence length, by running the graph.

Symbolic shape inference fails on some of the shape arithmetic that exporters write; running the graph does not. So the
graph runs three times with different batch sizes and lengths, and zeros for weights, and every dimension is fitted as
`factor * batch**i * sequence**j`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from crossrank.export.graph.tools import skeleton

# Batch size and length of the three runs: the second determines a dimension's power of the batch size, the third its
# power of the length.
_RUNS = ((2, 7), (3, 7), (2, 11))
_MAX_POWER = 3

_TYPE_NAMES = {
    "bfloat16": onnx.TensorProto.BFLOAT16,
    "bool": onnx.TensorProto.BOOL,
    "double": onnx.TensorProto.DOUBLE,
    "float": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "int16": onnx.TensorProto.INT16,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
    "int8": onnx.TensorProto.INT8,
    "string": onnx.TensorProto.STRING,
    "uint16": onnx.TensorProto.UINT16,
    "uint32": onnx.TensorProto.UINT32,
    "uint64": onnx.TensorProto.UINT64,
    "uint8": onnx.TensorProto.UINT8,
}


@dataclass(frozen=True)
class Dim:
    """One dimension: `factor * batch**batch_power * sequence**sequence_power`."""

    factor: int
    batch_power: int = 0
    sequence_power: int = 0

    @property
    def is_constant(self) -> bool:
        """Whether the dimension is the same for every input."""
        return self.batch_power == 0 and self.sequence_power == 0

    def at(self, batch: int, sequence: int) -> int:
        """The dimension for one batch size and sequence length."""
        size: int = self.factor * batch**self.batch_power * sequence**self.sequence_power
        return size


ONE = Dim(1)
BATCH = Dim(1, batch_power=1)
SEQUENCE = Dim(1, sequence_power=1)

Shape = tuple[Dim | None, ...]
"""A tensor's dimensions; None for a dimension that is not such a product."""


def probe_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Find the shape of every tensor outside subgraphs, initializers included.

    Args:
        model: a graph whose inputs are integer tensors [batch, sequence].

    Returns:
        Tensor name to shape. A tensor whose rank differs between runs is left out.

    Raises:
        onnxruntime's exceptions where the graph does not run.
    """
    weights = {tensor.name: tuple(Dim(int(size)) for size in tensor.dims) for tensor in model.graph.initializer}
    names = _output_names(model)
    session = _session_of_all_tensors(model)
    sizes_by_run = [_run(session, names, batch, sequence) for batch, sequence in _RUNS]
    shapes: dict[str, Shape] = dict(weights)
    for value in model.graph.input:
        if value.name not in weights:
            shapes[value.name] = (BATCH, SEQUENCE)
    for name, sizes in zip(names, zip(*sizes_by_run, strict=True), strict=True):
        if len({len(size) for size in sizes}) == 1:
            shapes[name] = tuple(_fit(*dims) for dims in zip(*sizes, strict=True))
    return shapes


def probe_types(model: onnx.ModelProto) -> dict[str, int]:
    """Find the element type of every tensor that a node outside subgraphs outputs.

    Args:
        model: a graph whose inputs are integer tensors [batch, sequence].

    Returns:
        Tensor name to onnx.TensorProto's data type. Sequences, and types that graphs of transformers do not use (such
        as float8), are left out.
    """
    types = {f"tensor({name})": number for name, number in _TYPE_NAMES.items()}
    return {
        value.name: types[value.type] for value in _session_of_all_tensors(model).get_outputs() if value.type in types
    }


def probe_fixed(model: onnx.ModelProto, names: list[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Find which of some tensors have the same value for every batch size and length.

    Args:
        model: a graph whose inputs are integer tensors [batch, sequence].
        names: tensors that do not depend on large weights, because those are zeros here.

    Returns:
        Name to value of the tensors that are always the same.
    """
    session = _session_of_all_tensors(model)
    runs = [session.run(names, _feeds(session, batch, sequence)) for batch, sequence in _RUNS]
    return {
        name: np.asarray(values[0])
        for name, values in zip(names, zip(*runs, strict=True), strict=True)
        if all(np.array_equal(values[0], value) for value in values[1:])
    }


def probe_uniform(model: onnx.ModelProto, names: list[str]) -> dict[str, bool]:
    """Find which of some tensors contain only zeros, or none, for every batch size and length.

    Args:
        model: a graph whose inputs are integer tensors [batch, sequence].
        names: tensors that depend neither on large weights nor on input values, because both are placeholders here.

    Returns:
        Name to False for tensors of zeros (or of False), to True for tensors without any.
    """
    session = _session_of_all_tensors(model)
    runs = [session.run(names, _feeds(session, batch, sequence)) for batch, sequence in _RUNS]
    uniform = {}
    for name, values in zip(names, zip(*runs, strict=True), strict=True):
        if not any(map(np.any, values)):
            uniform[name] = False
        elif all(map(np.all, values)):
            uniform[name] = True
    return uniform


def _output_names(model: onnx.ModelProto) -> list[str]:
    return [name for node in model.graph.node for name in node.output if name]


def _session_of_all_tensors(model: onnx.ModelProto) -> Any:
    """A session over the graph with zeros for weights, which outputs every tensor."""
    import onnxruntime

    light = skeleton(model)
    declared = {value.name for value in light.graph.output}
    light.graph.output.extend(onnx.ValueInfoProto(name=name) for name in _output_names(model) if name not in declared)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(light.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: Any, names: list[str], batch: int, sequence: int) -> list[tuple[int, ...]]:
    return [np.shape(array) for array in session.run(names, _feeds(session, batch, sequence))]


def _feeds(session: Any, batch: int, sequence: int) -> dict[str, np.ndarray[Any, Any]]:
    feeds = {}
    for value in session.get_inputs():
        dtype = np.int32 if value.type == "tensor(int32)" else np.int64
        feeds[value.name] = np.full((batch, sequence), 1 if "mask" in value.name else 0, dtype=dtype)
    return feeds


def _fit(first: int, other_batch: int, other_sequence: int) -> Dim | None:
    (batch, sequence), (batch_2, _), (_, sequence_2) = _RUNS
    for batch_power in range(_MAX_POWER):
        for sequence_power in range(_MAX_POWER):
            unit = batch**batch_power * sequence**sequence_power
            dim = Dim(first // unit, batch_power, sequence_power)
            if (
                dim.factor > 0
                and dim.at(batch, sequence) == first
                and dim.at(batch_2, sequence) == other_batch
                and dim.at(batch, sequence_2) == other_sequence
            ):
                return dim
    return None
