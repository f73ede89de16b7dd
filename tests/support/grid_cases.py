"""Batches of random tokens, and a small grid of shapes for them."""

import numpy as np

from crossrank.engine.plan.shape_grid import ShapeGrid
from crossrank.engine.text.encoded import TokenArrays

GRID = ShapeGrid((8, 16, 32), 128)
VOCABULARY = 90


def batch(rows, length, seed=0):
    """Rows of random tokens and random lengths, the first of full length."""
    random = np.random.default_rng(seed)
    lengths = [length, *random.integers(3, length + 1, rows - 1)]
    mask = (np.arange(length) < np.asarray(lengths)[:, None]).astype(np.int64)
    ids = random.integers(5, VOCABULARY, (rows, length)) * mask
    return TokenArrays(ids, mask, np.zeros_like(ids))
