"""The modules behind a transformer computed a second time, in numpy and float64, for the reference.

Nothing of the export's own reading is used: `modules.json`, the modules' configurations and weights are read here
again, in the way of what sentence-transformers' modules compute.
"""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_ERF = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)))


# By the class's name: torch.nn.Tanh is torch.nn.modules.activation.Tanh.
_ACTIVATIONS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.where(x > 0, x, 0.0),
    "GELU": lambda x: x * (1.0 + _ERF(x / math.sqrt(2.0))) / 2.0,
    "Sigmoid": _sigmoid,
    "SiLU": lambda x: x * _sigmoid(x),
}
_NORM_EPSILON = 1e-5  # of torch.nn.LayerNorm, which the configuration does not state


class HeadByNumpy:
    """A transformer without a head, and what follows it; called like a model of transformers."""

    def __init__(self, encoder: Any, folder: Path) -> None:
        """Take the transformer.

        Args:
            encoder: as `AutoModel` loads it.
            folder: the checkpoint.
        """
        self._encoder = encoder
        self._folder = folder
        self._modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))[1:]

    def __call__(self, **encoded: Any) -> Any:
        """An object with `logits`, a float32 tensor [batch, labels]."""
        import torch

        tokens = self._encoder(**encoded).last_hidden_state.numpy().astype(np.float64)
        values = np.empty(0)
        for module in self._modules:
            folder, kind = self._folder / module["path"], module["type"].split(".")[-1]
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if kind == "Pooling":
                values = _pooled(tokens, encoded["attention_mask"].numpy(), config)
            elif kind == "LayerNorm":
                weights = _weights(folder)
                centred = values - values.mean(axis=1, keepdims=True)
                spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + _NORM_EPSILON)
                values = centred / spread * weights["norm.weight"] + weights["norm.bias"]
            elif kind == "Dense":
                weights = _weights(folder)
                values = np.einsum("bi,oi->bo", values, weights["linear.weight"]) + weights.get("linear.bias", 0.0)
                activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
                values = _ACTIVATIONS[activation.rpartition(".")[2]](values)
        return SimpleNamespace(logits=torch.from_numpy(values.astype(np.float32)))


def _pooled(tokens: NDArray[np.float64], mask: NDArray[np.int64], config: Mapping[str, Any]) -> NDArray[np.float64]:
    by_mean = "mean" in str(config.get("pooling_mode", "")) or bool(config.get("pooling_mode_mean_tokens"))
    rows = [row[kept == 1] for row, kept in zip(tokens, mask, strict=True)]
    return np.stack([row.mean(axis=0) if by_mean else row[0] for row in rows])


def _weights(folder: Path) -> dict[str, NDArray[np.float64]]:
    from safetensors.torch import load_file

    # By torch, because numpy has no bfloat16.
    return {name: tensor.double().numpy() for name, tensor in load_file(folder / "model.safetensors").items()}
