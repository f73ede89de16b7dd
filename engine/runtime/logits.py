"""From a model's outputs to logits, and from logits to scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from crossrank.models.manifest import Activation


def relevance_logits(outputs: npt.NDArray[np.float32], positive_label: int) -> npt.NDArray[np.float32]:
    """The logit of "relevant" for each pair, from a model's outputs.

    With several labels it is the positive one's logit minus the logsumexp of the others', because then
    sigmoid(z_p - log(sum_o exp(z_o))) = exp(z_p) / (exp(z_p) + sum_o exp(z_o)): one logit a pair whose sigmoid is the
    softmax probability of the positive label. With two labels it is the difference of both.

    Args:
        outputs: float32 (n, labels).
        positive_label: with several labels, the column that means relevant.

    Returns:
        float32 (n,).
    """
    if outputs.shape[1] == 1:
        return outputs[:, 0]
    if outputs.shape[1] == 2:  # noqa: PLR2004
        return outputs[:, positive_label] - outputs[:, 1 - positive_label]
    with np.errstate(invalid="ignore"):  # an infinity among the outputs gives NaN, which the caller looks for
        others = np.logaddexp.reduce(np.delete(outputs, positive_label, axis=1).astype(np.float64), axis=1)
        return np.asarray(outputs[:, positive_label] - others, dtype=np.float32)


def activate(logits: npt.NDArray[np.float32], activation: Activation) -> npt.NDArray[np.float32]:
    """Apply an activation to logits, float32 (n,) to float32 (n,)."""
    if activation == "identity":
        return logits
    # The exponent is never positive, so exp cannot overflow.
    decay = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + decay), decay / (1 + decay)).astype(np.float32)
