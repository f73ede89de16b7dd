"""In the place of sentence-transformers' `CrossEncoder`: the same calls, scored by crossrank.

    >>> from crossrank.compat import CrossEncoder  # instead of: from sentence_transformers import CrossEncoder

docs/migrate/cross-encoder.md says what is equal, and what is refused.
"""

from crossrank.compat.activations import identity, sigmoid
from crossrank.compat.cross_encoder import CrossEncoder

__all__ = ["CrossEncoder", "identity", "sigmoid"]
