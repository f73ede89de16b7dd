"""What turns a model's outputs into scores, in sentence-transformers' words: `activation_fn` and `apply_softmax`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from crossrank.compat.tensors import torch_if_installed
from crossrank.engine.runtime.logits import activate
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

ActivationFn: TypeAlias = Callable[[Any], Any]
"""Takes the outputs of some pairs, (pairs, labels): a float32 tensor where torch is installed, else an array."""


def identity(logits: Any) -> Any:
    """Logits as they are, arrays or tensors: `torch.nn.Identity()` for those who have no torch."""
    return logits


def sigmoid(logits: Any) -> Any:
    """The sigmoid of logits, arrays or tensors: `torch.nn.Sigmoid()` for those who have no torch."""
    return activate(logits, "sigmoid") if isinstance(logits, np.ndarray) else logits.sigmoid()


OF_MODEL: dict[str, ActivationFn] = {"identity": identity, "sigmoid": sigmoid}
"""What an artifact names."""


def checked_activation(activation_fn: object) -> None:
    """Refuse what cannot be called.

    Raises:
        InvalidInputError: it is neither None nor a function.
    """
    if activation_fn is not None and not callable(activation_fn):
        raise InvalidInputError(
            f"activation_fn={activation_fn!r:.100}: a function of the logits expected, such as torch.nn.Identity() or "
            "crossrank.compat.identity"
        )


def scores_of(
    logits: npt.NDArray[np.float32],
    activation_fn: ActivationFn,
    batches: Sequence[npt.NDArray[np.int64]],
    *,
    apply_softmax: bool,
) -> Any:
    """Scores of logits.

    Args:
        logits: float32 (n, labels), of at least one pair.
        activation_fn: what is applied to them, batch by batch.
        batches: for each batch its pairs, all n together.
        apply_softmax: whether a softmax follows over what is there of each pair, if that is several numbers.

    Returns:
        (n,) of one label, else what the function makes of (n, labels); an array or a tensor, in the pairs' order.

    Raises:
        InvalidInputError: the function does not give something for each pair.
    """
    torch = None
    if activation_fn is identity or activation_fn is sigmoid:
        scores = _of_one_label(activation_fn(logits), logits)
    else:
        torch = torch_if_installed()
        outputs = [_of_one_label(_applied(activation_fn, logits[batch], torch), logits) for batch in batches]
        back = np.argsort(np.concatenate(batches))
        scores = np.concatenate(outputs)[back] if torch is None else torch.cat(outputs)[torch.from_numpy(back)]
    if apply_softmax and scores.ndim > 1:
        return _softmax(scores) if torch is None else torch.softmax(scores, dim=1)
    return scores


def _of_one_label(output: Any, logits: npt.NDArray[np.float32]) -> Any:
    """Without the axis of the labels where there is one label."""
    alone = logits.shape[1] == 1 and output.ndim > 1 and output.shape[-1] == 1
    return output.squeeze(-1) if alone else output


def _applied(activation_fn: ActivationFn, logits: npt.NDArray[np.float32], torch: Any) -> Any:
    if torch is None:
        output = activation_fn(logits)
        usable = isinstance(output, np.ndarray)
    else:
        with torch.inference_mode():
            output = activation_fn(torch.from_numpy(logits))
        usable = isinstance(output, torch.Tensor)
    if not usable or output.ndim == 0 or len(output) != len(logits):
        kind = f"{type(output).__name__} of shape {tuple(output.shape)}" if usable else type(output).__name__
        raise InvalidInputError(
            f"activation_fn={activation_fn!r:.100} made a {kind} of {len(logits)} pairs' logits; "
            f"{'an array' if torch is None else 'a tensor'} with something for each pair expected"
        )
    return output


def _softmax(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return result
