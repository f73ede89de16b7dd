"""The weights of a decoder as transformers loads it, layer by layer, and what its layers compute.

Read are the modules that transformers made of the configuration, not the configuration itself: whether a projection has
a bias, which frequencies positions rotate by, what the norms multiply with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crossrank.errors import UnsupportedCheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crossrank.export.checkpoint.checkpoint import Checkpoint

Activation = Literal["silu", "gelu", "gelu_tanh"]

_ACTIVATIONS: dict[str, Activation] = {
    "SiLU": "silu",
    "SiLUActivation": "silu",
    "GELUActivation": "gelu",
    "GELUTanh": "gelu_tanh",
    "PytorchGELUTanh": "gelu_tanh",
}
"""By the names of transformers' and torch's modules, of which different versions take different ones."""
_FIXED_FREQUENCIES = frozenset({"default", "linear", "llama3", "yarn"})
"""Kinds of rotary positions whose frequencies do not depend on how long a text is."""


@dataclass(frozen=True)
class Linear:
    """A projection.

    Attributes:
        weight: float32 (inputs, outputs).
        bias: float32 (outputs,), or None.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None


@dataclass(frozen=True)
class Layer:
    """One layer: attention with its norm, then the gated feed-forward with its own.

    Attributes:
        attention_norm: scales of the norm before attention, float32 (hidden,).
        query: projection of the queries; likewise `key`, `value`, and `output` of what attention gives.
        query_norm: scales of a norm over each head's queries, float32 (head,); None where there is none.
        key_norm: the same for keys.
        feed_forward_norm: scales of the norm before the feed-forward, float32 (hidden,).
        gate: projection that goes through the activation, and multiplies that of `up`.
        up: the other one.
        down: projection back to the hidden size.
    """

    attention_norm: NDArray[np.float32]
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    query_norm: NDArray[np.float32] | None
    key_norm: NDArray[np.float32] | None
    feed_forward_norm: NDArray[np.float32]
    gate: Linear
    up: Linear
    down: Linear


class DecoderWeights:
    """A decoder's weights. Layers are copied one at a time, so that a large model is not in memory three times.

    Attributes:
        heads: of the queries.
        key_heads: of keys and values; each serves `heads / key_heads` heads of queries.
        head_size: of all of them.
        epsilon: of the norms.
        activation: of the feed-forward.
        embeddings: float32 (tokens, hidden).
        embedding_scale: multiplies the embeddings.
        frequencies: of the rotary positions, float32 (head_size / 2,).
        rotary_scale: multiplies their sines and cosines.
        norm: scales of the last norm, float32 (hidden,).
        head: gives the outputs from the last norm's, float32 (hidden, labels).
        pad_token_id: the token that the head skips at a text's end; None where it reads the last token whatever it is.
        layer_count: how many layers there are.
    """

    def __init__(self, model: Any, checkpoint: Checkpoint) -> None:
        """Look at a loaded model.

        Args:
            model: from `load_torch_model`, in float32.
            checkpoint: what it was loaded of.

        Raises:
            UnsupportedCheckpointError: it computes something that a graph of ours would not.
        """
        config, self._model = model.config, model.model
        self._refuse_unknown(config, checkpoint)
        first = self._model.layers[0].self_attn
        self.layer_count = len(self._model.layers)
        self.head_size = int(first.head_dim)
        self.heads = int(config.num_attention_heads)
        self.key_heads = int(config.num_key_value_heads)
        self.epsilon = float(config.rms_norm_eps)
        self.activation = _ACTIVATIONS[self._activation]
        # Gemma multiplies by the root of the hidden size and norms with 1 + weight; the others do neither.
        self._is_gemma = config.model_type == "gemma"
        self.embedding_scale = float(config.hidden_size) ** 0.5 if self._is_gemma else 1.0
        self.embeddings = _array(self._model.embed_tokens.weight)
        self.frequencies = _array(self._model.rotary_emb.inv_freq)
        self.rotary_scale = float(self._model.rotary_emb.attention_scaling)
        self.norm = self._norm(self._model.norm)
        self.head, self.pad_token_id = _head(model, checkpoint)

    def layer(self, index: int) -> Layer:
        """The weights of one layer, copied."""
        layer = self._model.layers[index]
        attention, feed_forward = layer.self_attn, layer.mlp
        query_norm, key_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
        return Layer(
            attention_norm=self._norm(layer.input_layernorm),
            query=_linear(attention.q_proj),
            key=_linear(attention.k_proj),
            value=_linear(attention.v_proj),
            output=_linear(attention.o_proj),
            query_norm=None if query_norm is None else self._norm(query_norm),
            key_norm=None if key_norm is None else self._norm(key_norm),
            feed_forward_norm=self._norm(layer.post_attention_layernorm),
            gate=_linear(feed_forward.gate_proj),
            up=_linear(feed_forward.up_proj),
            down=_linear(feed_forward.down_proj),
        )

    @property
    def _activation(self) -> str:
        return type(self._model.layers[0].mlp.act_fn).__name__

    def _norm(self, module: Any) -> NDArray[np.float32]:
        weight = _array(module.weight)
        return weight + np.float32(1) if self._is_gemma else weight

    def _refuse_unknown(self, config: Any, checkpoint: Checkpoint) -> None:
        kind = str(getattr(self._model.rotary_emb, "rope_type", "default"))
        window = getattr(config, "sliding_window", None) or 0
        if kind not in _FIXED_FREQUENCIES:
            why = f"rotary positions of the kind {kind!r}, whose frequencies change with a text's length"
        elif _has_windows(config) and window < checkpoint.max_length:
            why = (
                f"layers that attend to the last {window} tokens only, while a pair may have {checkpoint.max_length}; "
                f"export it with a max_length of at most {window}"
            )
        elif self._activation not in _ACTIVATIONS:
            why = f"the activation {self._activation}; crossrank has SiLU and GELU"
        else:
            return
        raise UnsupportedCheckpointError(f"{checkpoint.source.id} has {why}")


def _has_windows(config: Any) -> bool:
    """Whether some layer attends to the last tokens only; before 4.53, transformers does not list the layers' kinds."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return "sliding_attention" in kinds
    first = getattr(config, "max_window_layers", None)
    return bool(getattr(config, "use_sliding_window", False)) and (first is None or first < config.num_hidden_layers)


def _head(model: Any, checkpoint: Checkpoint) -> tuple[NDArray[np.float32], int | None]:
    """The rows of the output matrix that score, as one matrix, and the padding token that the head skips."""
    if not checkpoint.answers:
        pad_token_id = model.config.pad_token_id
        return np.ascontiguousarray(_array(model.score.weight).T), pad_token_id
    matrix = model.lm_head.weight.detach()
    positive, *negative = (_array(matrix[index]) for index in checkpoint.answers)
    row = positive - negative[0] if negative else positive
    return np.ascontiguousarray(row[:, np.newaxis]), None


def _linear(module: Any) -> Linear:
    return Linear(np.ascontiguousarray(_array(module.weight).T), None if module.bias is None else _array(module.bias))


def _array(tensor: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().to("cpu").float().numpy().copy()
    return array
