"""Shapes of every tensor of a graph as products of batch and sequence, found by running it.

Symbolic shape inference gives up on some of the shape arithmetic that exporters write; a run of a graph never
does. So the graph runs three times with different batches and lengths, with zeros for weights, and every
dimension is read off as `factor * batch**i * sequence**j`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from crossrank.export.passes.graph_tools import skeleton

# Batch and sequence of the three runs: the second tells a dimension's power of the batch, the third that of the
# sequence.
_RUNS = ((2, 7), (3, 7), (2, 11))
_MAX_POWER = 3


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
        """The dimension for one input shape."""
        return self.factor * batch**self.batch_power * sequence**self.sequence_power


ONE = Dim(1)
BATCH = Dim(1, batch_power=1)
SEQUENCE = Dim(1, sequence_power=1)

Shape = tuple[Dim | None, ...]
"""A tensor's dimensions; None where a dimension is no such product."""


def probe_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Find the shape of every tensor outside subgraphs, initializers included.

    Args:
        model: a graph whose inputs are integer tensors [batch, sequence].

    Returns:
        Tensor name to shape. A tensor whose rank differs between runs is left out.

    Raises:
        onnxruntime's exceptions where the graph does not run.
    """
    light = skeleton(model)
    weights = {tensor.name: tuple(Dim(int(size)) for size in tensor.dims) for tensor in model.graph.initializer}
    names = [name for node in model.graph.node for name in node.output if name]
    declared = {value.name for value in light.graph.output}
    light.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in declared)
    seen = _run(light, names)
    shapes: dict[str, Shape] = dict(weights)
    for value in model.graph.input:
        if value.name not in weights:
            shapes[value.name] = (BATCH, SEQUENCE)
    for name, sizes in zip(names, zip(*seen, strict=True), strict=True):
        if len({len(size) for size in sizes}) == 1:
            shapes[name] = tuple(_fit(*dims) for dims in zip(*sizes, strict=True))
    return shapes


def _run(light: onnx.ModelProto, names: list[str]) -> list[list[tuple[int, ...]]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(light.SerializeToString(), options, providers=["CPUExecutionProvider"])
    types = {value.name: value.type.tensor_type.elem_type for value in light.graph.input}
    seen = []
    for batch, sequence in _RUNS:
        feeds: dict[str, Any] = {}
        for value in session.get_inputs():
            dtype = helper.tensor_dtype_to_np_dtype(types[value.name])
            fill = 1 if "mask" in value.name else 0
            feeds[value.name] = np.full((batch, sequence), fill, dtype=dtype)
        seen.append([np.shape(array) for array in session.run(names, feeds)])
    return seen


def _fit(first: int, other_batch: int, other_sequence: int) -> Dim | None:
    (batch, sequence), (batch_2, _), (_, sequence_2) = _RUNS
    for batch_power in range(_MAX_POWER):
        for sequence_power in range(_MAX_POWER):
            whole = batch**batch_power * sequence**sequence_power
            dim = Dim(first // whole, batch_power, sequence_power)
            if (
                dim.factor > 0
                and dim.at(batch, sequence) == first
                and dim.at(batch_2, sequence) == other_batch
                and dim.at(batch, sequence_2) == other_sequence
            ):
                return dim
    return None
