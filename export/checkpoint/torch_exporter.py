"""The exporter that torch brings along: `torch.onnx.export(dynamo=True)`, which needs onnxscript besides.

It follows the model's own Python code with symbolic sizes, so it needs no list of architectures, and no version of
transformers is too new for it.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from crossrank.errors import ExportError
from crossrank.export.checkpoint.torch_model import SEGMENTS
from crossrank.export.graph.interface import INPUTS, OUTPUT

if TYPE_CHECKING:
    import onnx

    from crossrank.export.checkpoint.checkpoint import Checkpoint

OPSET = 18
"""The lowest operator set the exporter writes without converting a graph afterwards."""

# The pairs it follows the model with: neither size may be 0 or 1, which would be taken for fixed.
_BATCH, _SEQUENCE = 2, 16


def export_with_torch(checkpoint: Checkpoint, model: Any) -> onnx.ModelProto:
    """Export a loaded checkpoint.

    Args:
        checkpoint: what is exported.
        model: the same as a PyTorch model in float32.

    Raises:
        ExportError: the exporter failed, or the model has no logits for a batch of any size and length.
    """
    import torch

    names = (*INPUTS[:2], SEGMENTS) if _takes_segments(model) else INPUTS[:2]
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                _logits_of(model),
                _example(names, min(_SEQUENCE, checkpoint.max_length)),
                dynamo=True,
                dynamic_shapes=tuple(dynamic for _ in names),
                input_names=names,
                output_names=(OUTPUT,),
                opset_version=OPSET,
                optimize=True,
                verbose=False,
            )
        graph: onnx.ModelProto = program.model_proto
    except (MemoryError, OSError):
        raise
    except Exception as error:
        # torch.onnx's errors are many, and onnxscript's share no base with them.
        raise ExportError(
            f"torch.onnx failed to export {checkpoint.source.id} ({checkpoint.architecture.model_type}): "
            f"{type(error).__name__}: {error}"
        ) from error
    _name_dimensions(graph)
    return graph


def _takes_segments(model: Any) -> bool:
    """Whether segment ids mean something to a model: it accepts them, and has more than one segment embedding."""
    accepts = SEGMENTS in inspect.signature(model.forward).parameters
    return accepts and (getattr(model.config, "type_vocab_size", None) or 0) > 1


def _logits_of(model: Any) -> Any:
    """The model as a module of tensors to one tensor, with inputs in the order of `INPUTS`."""
    import torch

    class Logits(torch.nn.Module):  # type: ignore[misc]  # torch has no types here
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            segments = {} if token_type_ids is None else {SEGMENTS: token_type_ids}
            return self.model(input_ids=input_ids, attention_mask=attention_mask, **segments).logits

    return Logits().eval()


def _example(names: tuple[str, ...], sequence: int) -> tuple[Any, ...]:
    """Two pairs, one of them shorter. Which tokens they hold does not matter: no graph may depend on it."""
    import torch

    shape = (_BATCH, sequence)
    mask = torch.ones(shape, dtype=torch.int64)
    mask[1, sequence // 2 :] = 0
    tensors = dict(zip(INPUTS, (torch.ones(shape, dtype=torch.int64), mask, torch.zeros_like(mask)), strict=True))
    return tuple(tensors[name] for name in names)


def _name_dimensions(graph: onnx.ModelProto) -> None:
    """Call the open dimensions as the other exporter does."""
    for value in (*graph.graph.input, *graph.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, ("batch_size", "sequence_length"), strict=False):
            if dimension.HasField("dim_param"):
                dimension.dim_param = name
