"""A transformer and the modules behind it as one PyTorch model that gives logits, for the ONNX exporters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.head_modules import MODULE_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.export.checkpoint.head_modules import HeadModule


def with_head(encoder: Any, head: Sequence[HeadModule], folder: Path) -> Any:
    """The encoder with its head, as a model of transformers in evaluation mode.

    Args:
        encoder: of `AutoModel`, in float32.
        head: the modules behind it, a Pooling first.
        folder: the checkpoint, whose module folders have the weights.

    Returns:
        A model whose `forward` takes what the encoder takes and gives `logits` [batch, labels].

    Raises:
        UnsupportedCheckpointError: the weights of a module are not those its configuration calls for.
    """
    import torch
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    by_mean = head[0].pooling == "mean"
    steps = torch.nn.Sequential(*(_step(module, folder) for module in head[1:]))

    class CrossEncoderOfModules(PreTrainedModel):  # type: ignore[misc]  # transformers has no types here
        config_class = type(encoder.config)

        def __init__(self) -> None:
            super().__init__(encoder.config)
            self.encoder = encoder
            self.steps = steps

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            tokens = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **segments).last_hidden_state
            if by_mean:
                # Padding is no text: neither summed nor counted.
                mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
                pooled = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
            else:
                # Batches are padded on the right, so the first token is that of the text.
                pooled = tokens[:, 0]
            return SequenceClassifierOutput(logits=self.steps(pooled))

    return CrossEncoderOfModules().eval()


def _step(module: HeadModule, folder: Path) -> Any:
    import torch
    from safetensors.torch import load_file

    path = folder / module.path / MODULE_WEIGHTS
    if module.kind == "LayerNorm":
        layer: Any = torch.nn.LayerNorm(module.inputs)
        prefix = "norm."
    else:
        layer = torch.nn.Linear(module.inputs, module.outputs, bias=module.bias)
        prefix = "linear."
    try:
        weights = {name: tensor.to(torch.float32) for name, tensor in load_file(path).items()}
        layer.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in weights.items()})
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a disk error, to which the export's message adds what to do
        raise UnsupportedCheckpointError(
            f"{path} has not the weights of a {module.kind} from {module.inputs} to {module.outputs}: {error}"
        ) from error
    if module.kind == "LayerNorm":
        return layer
    return torch.nn.Sequential(layer, getattr(torch.nn, module.activation)())
