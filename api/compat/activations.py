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

_IDENTITY = ("torch.nn.modules.linear", "Identity")
_SOFTMAX = ("torch.nn.modules.activation", "Softmax")


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


def one_label_scores(
    logits: npt.NDArray[np.float32],
    activation_fn: ActivationFn,
    batches: Sequence[npt.NDArray[np.int64]],
    *,
    apply_softmax: bool,
) -> Any:
    """Scores of a model with one label.

    Args:
        logits: float32 (n,), at least one.
        activation_fn: what is applied to them, batch by batch, as a column (b, 1).
        batches: for each batch its pairs, all n together.
        apply_softmax: whether a softmax follows over what the function makes of one pair, if that is several numbers.

    Returns:
        (n,), or (n, k) where the function gives k numbers for a pair; an array or a tensor, in the pairs' order.

    Raises:
        InvalidInputError: the function does not give something for each pair.
    """
    if activation_fn is identity or activation_fn is sigmoid:
        return activation_fn(logits)
    torch = torch_if_installed()
    order = np.concatenate(batches)
    back = np.argsort(order)
    outputs: list[Any] = []
    for batch in batches:
        column = logits[batch, np.newaxis]
        if torch is None:
            output = activation_fn(column)
            usable = isinstance(output, np.ndarray)
        else:
            with torch.inference_mode():
                output = activation_fn(torch.from_numpy(column))
            usable = isinstance(output, torch.Tensor)
        if not usable or output.ndim == 0 or len(output) != len(batch):
            kind = f"{type(output).__name__} of shape {tuple(output.shape)}" if usable else type(output).__name__
            raise InvalidInputError(
                f"activation_fn={activation_fn!r:.100} made a {kind} of {len(batch)} pairs' logits; "
                f"{'an array' if torch is None else 'a tensor'} with something for each pair expected"
            )
        outputs.append(output.squeeze(-1) if output.ndim > 1 and output.shape[-1] == 1 else output)
    scores = np.concatenate(outputs)[back] if torch is None else torch.cat(outputs)[torch.from_numpy(back)]
    if apply_softmax and scores.ndim > 1:
        return _softmax(scores) if torch is None else torch.softmax(scores, dim=1)
    return scores


def two_label_scores(
    differences: npt.NDArray[np.float32],
    positive_label: int,
    activation_fn: ActivationFn | None,
    *,
    apply_softmax: bool,
) -> npt.NDArray[np.float32]:
    """Scores of a model with two labels: the softmax of both, which follows from the difference of their logits.

    Args:
        differences: the positive label's logit less the other's, float32 (n,).
        positive_label: its column.
        activation_fn: as stated; None where nothing is.
        apply_softmax: whether a softmax follows.

    Returns:
        float32 (n, 2).

    Raises:
        InvalidInputError: the scores asked for need the logits themselves, or what the model states, which an artifact
            does not keep.
    """
    probabilities = np.empty((len(differences), 2), dtype=np.float32)
    probabilities[:, positive_label] = activate(differences, "sigmoid")
    probabilities[:, 1 - positive_label] = activate(-differences, "sigmoid")
    if apply_softmax and _is_identity(activation_fn):
        return probabilities
    if _is_softmax(activation_fn):
        return _softmax(probabilities) if apply_softmax else probabilities
    given = "none" if activation_fn is None else f"{activation_fn!r:.100}"
    raise InvalidInputError(
        f"this model has two labels, activation_fn is {given} and apply_softmax={apply_softmax}: crossrank keeps the "
        "difference of the two logits, of which the softmax of both can be made, and nothing else; give "
        "activation_fn=torch.nn.Softmax(dim=1), or torch.nn.Identity() together with apply_softmax=True"
    )


def _is_identity(activation_fn: object) -> bool:
    return activation_fn is identity or _name_of_type(activation_fn) == _IDENTITY


def _is_softmax(activation_fn: object) -> bool:
    # `dim` None is 1 for two axes.
    return _name_of_type(activation_fn) == _SOFTMAX and getattr(activation_fn, "dim", 0) in (1, -1, None)


def _name_of_type(value: object) -> tuple[str, str]:
    return type(value).__module__, type(value).__qualname__


def _softmax(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return result
