"""What a graph must take and give so that the engine can run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.errors import UnsupportedCheckpointError

if TYPE_CHECKING:
    import onnx

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"
_RANK = 2


def input_names(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names a graph takes, in its order (initializers listed among the inputs are none)."""
    held = {tensor.name for tensor in model.graph.initializer}
    return tuple(value.name for value in model.graph.input if value.name not in held)


def input_types(model: onnx.ModelProto) -> dict[str, type[np.integer[Any]]]:
    """The integer type of each input a graph takes, in its order."""
    from onnx import TensorProto

    types: dict[int, type[np.integer[Any]]] = {TensorProto.INT64: np.int64, TensorProto.INT32: np.int32}
    declared = {value.name: types[value.type.tensor_type.elem_type] for value in model.graph.input}
    return {name: declared[name] for name in input_names(model)}


def check_inputs(model: onnx.ModelProto) -> None:
    """Make sure the engine can feed a graph, and that it has one output.

    Args:
        model: expected with inputs among input_ids, attention_mask and token_type_ids, int64 or int32
            [batch, sequence] with both left open, and one output.

    Raises:
        UnsupportedCheckpointError: it is otherwise; the message says how.
    """
    from onnx import TensorProto

    names = input_names(model)
    if "input_ids" not in names or not set(names) <= set(INPUTS):
        raise UnsupportedCheckpointError(
            f"the graph takes {list(names)}; expected input_ids and besides it only {', '.join(INPUTS[1:])}"
        )
    for value in model.graph.input:
        if value.name not in names:
            continue
        tensor = value.type.tensor_type
        if tensor.elem_type not in (TensorProto.INT64, TensorProto.INT32) or len(tensor.shape.dim) != _RANK:
            raise UnsupportedCheckpointError(
                f"input {value.name} is {_shown(value)}; expected integers [batch, sequence]"
            )
        if any(dimension.HasField("dim_value") for dimension in tensor.shape.dim):
            raise UnsupportedCheckpointError(
                f"input {value.name} is {_shown(value)}, a fixed shape; export the model again with dynamic axes"
            )
    if len(model.graph.output) != 1:
        given = [value.name for value in model.graph.output]
        raise UnsupportedCheckpointError(f"the graph gives {given}; expected one output, the logits")


def check_interface(model: onnx.ModelProto) -> None:
    """Make sure the engine can feed a graph and read it.

    Args:
        model: expected with inputs among input_ids, attention_mask and token_type_ids, int64 or int32
            [batch, sequence] with both left open, and one float32 output [batch, labels].

    Raises:
        UnsupportedCheckpointError: it is otherwise; the message says how.
    """
    from onnx import TensorProto

    check_inputs(model)
    output = model.graph.output[0]
    tensor = output.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT or len(tensor.shape.dim) != _RANK:
        raise UnsupportedCheckpointError(f"output {output.name} is {_shown(output)}; expected float32 [batch, labels]")


def _shown(value: onnx.ValueInfoProto) -> str:
    from onnx import TensorProto

    tensor = value.type.tensor_type
    dimensions = ", ".join(
        str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim
    )
    return f"{TensorProto.DataType.Name(tensor.elem_type).lower()} [{dimensions}]"
