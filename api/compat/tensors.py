"""Torch, for callers who have it: nothing else of crossrank's public classes imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.errors import MissingDependencyError

if TYPE_CHECKING:
    import numpy.typing as npt


def torch_if_installed() -> Any:
    """The module torch; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def require_torch(purpose: str) -> Any:
    """The module torch.

    Raises:
        MissingDependencyError: it is not installed.
    """
    torch = torch_if_installed()
    if torch is None:
        raise MissingDependencyError(f"{purpose}: torch is not installed; install it, or leave that out to get numpy")
    return torch


def as_tensor(scores: Any) -> Any:
    """Scores as a tensor on the CPU; a tensor stays what it is."""
    return require_torch("tensors").from_numpy(scores.copy()) if isinstance(scores, np.ndarray) else scores


def as_array(scores: Any) -> npt.NDArray[np.float32]:
    """Scores as float32."""
    return np.asarray(scores if isinstance(scores, np.ndarray) else scores.float().cpu().numpy(), dtype=np.float32)
