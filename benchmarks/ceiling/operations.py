"""Number of operations that a score needs, from the model's dimensions; a multiplication and an addition are two.

They are counted for the pruned graph, whatever graph is measured, so that superfluous work of a graph lowers its share
of the ceiling. Norms, activations, softmax and the embedding look-up are not counted, because they are not matrix
products; the time they take is part of what separates a model from the ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossrank.models.manifest import Architecture


@dataclass(frozen=True)
class Operations:
    """Operations of one pair, by what they are for.

    Attributes:
        full_layers: weight matrices of all layers but the last, over all tokens.
        last_layer_keys_values: K and V of the last layer, over all tokens.
        single_token: the rest of the last layer and the head, for the one token that is read.
        attention: queries times keys, and probabilities times values.
    """

    full_layers: int
    last_layer_keys_values: int
    single_token: int
    attention: int

    @property
    def total(self) -> int:
        """Sum of all."""
        return self.full_layers + self.last_layer_keys_values + self.single_token + self.attention


def operations_per_pair(architecture: Architecture, tokens: int, *, labels: int = 1) -> Operations:
    """Count the operations of one pair in a pruned encoder with a dense pooler and a linear classifier.

    A layer's matrices are Q, K, V and output (h x h each) and the two of the feed-forward block (h x i and i x h).

    Args:
        architecture: hidden size h, intermediate size i and number of layers.
        tokens: of the pair, special tokens included.
        labels: outputs of the classifier.
    """
    hidden, inner = architecture.hidden_size, architecture.intermediate_size
    layers = architecture.num_hidden_layers
    matrices = 4 * hidden * hidden + 2 * hidden * inner
    keys_values = 2 * hidden * hidden
    head = hidden * hidden + hidden * labels
    return Operations(
        full_layers=2 * tokens * matrices * (layers - 1),
        last_layer_keys_values=2 * tokens * keys_values,
        single_token=2 * (matrices - keys_values + head),
        attention=2 * 2 * tokens * hidden * (tokens * (layers - 1) + 1),
    )
