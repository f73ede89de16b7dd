"""Encoding without waiting for turns."""

from __future__ import annotations

import numpy as np

from crossrank.engine.call.encoded_candidates import candidate_pieces
from crossrank.engine.schedule.encoding_pieces import EncodingSpeed


def at_once(pieces):
    """The result of all pieces, done without a break."""
    try:
        while True:
            next(pieces)
    except StopIteration as end:
        return end.value


def encode_unknown(candidates):
    """Those candidates of which the cache knows nothing, encoded."""
    unknown = [index for index, known in enumerate(candidates.known) if known is None]
    return at_once(candidate_pieces(candidates, np.asarray(unknown, dtype=np.int64), EncodingSpeed()))
