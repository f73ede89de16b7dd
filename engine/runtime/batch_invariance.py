"""Whether a pair's score is bitwise the same alone and in a batch, and on one core and on several.

An int8 score must not depend on the other pairs of its batch, so int8 graphs run several pairs at once only where that
was verified: at export with many lengths, and again with a few short ones wherever the graph is loaded, because another
processor uses other routines. A graph for pairs of one length is tried on those, a packed one on different lengths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.text.encoding import TokenArrays
from crossrank.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from crossrank.engine.text.encoding import EncodedPairs, PairEncoder
    from crossrank.models.manifest import Batching, ReferencePair

LENGTH_AT_LOAD = 16
ROWS_AT_LOAD = 3
LENGTH_FOR_THREADS = 320
"""Tokens of the pair that is tried on several threads: onnxruntime sums in blocks of at most 256 from 33 columns on."""


def usable_batching(
    declared: Batching,
    pairs: Sequence[ReferencePair],
    encoder: PairEncoder,
    run: Callable[[TokenArrays], npt.NDArray[np.float32]],
) -> Batching:
    """What may share a run on this machine: what the manifest says, or 'single' where that does not hold here.

    Args:
        declared: what the manifest says. Only 'packed' and 'equal_length' are tried.
        pairs: the manifest's reference pairs; too few or too short ones show no difference, so 'single' is safe.
        encoder: of the artifact.
        run: scores a batch, float32 (b, labels).
    """
    if declared not in ("packed", "equal_length"):
        return declared
    encoded = encoder.pair(
        [encoder.encode_query(pair.query) for pair in pairs],
        np.arange(len(pairs)),
        encoder.encode_documents([pair.document for pair in pairs]),
    )
    arrays = rows_of_length(encoder, encoded, min(LENGTH_AT_LOAD, encoder.max_length), ROWS_AT_LOAD)
    if arrays is not None and declared == "packed":
        arrays = shortened(arrays, encoder.pad_token_id)
    return declared if arrays is not None and scores_ignore_other_pairs(run, arrays) else "single"


def rows_of_length(encoder: PairEncoder, pairs: EncodedPairs, length: int, rows: int) -> TokenArrays | None:
    """Real pairs cut to one length; None where fewer than two are long enough.

    Args:
        encoder: of the pairs.
        pairs: some pairs.
        length: tokens of every row.
        rows: how many at most.
    """
    long_enough = np.flatnonzero(pairs.lengths >= length)
    if len(long_enough) < 2:  # noqa: PLR2004
        return None
    # Spread out: neighbours share a query, and similar rows could hide a difference.
    chosen = long_enough[np.unique(np.linspace(0, len(long_enough) - 1, rows).astype(np.int64))]
    arrays = encoder.assemble(pairs, chosen, int(pairs.lengths[chosen].max()))
    return TokenArrays(
        arrays.input_ids[:, :length].copy(),
        arrays.attention_mask[:, :length].copy(),
        arrays.token_type_ids[:, :length].copy(),
    )


def shortened(arrays: TokenArrays, pad_token_id: int) -> TokenArrays:
    """The same rows cut to different lengths: the first stays as long as it is, the last is half as long.

    Args:
        arrays: n rows without padding.
        pad_token_id: fills up what is cut off.
    """
    rows, length = arrays.input_ids.shape
    lengths = np.linspace(length, max(1, length // 2), rows).astype(np.int64)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return TokenArrays(np.where(mask, arrays.input_ids, pad_token_id), mask, arrays.token_type_ids * mask)


def scores_ignore_other_pairs(run: Callable[[TokenArrays], npt.NDArray[np.float32]], arrays: TokenArrays) -> bool:
    """Compare each row alone with the same row in the first 2, 3, ... rows.

    Args:
        run: scores a batch, float32 (b, labels).
        arrays: n rows, right-padded to the longest.
    """
    count = len(arrays.input_ids)
    alone = np.concatenate([run(_rows(arrays, index, index + 1)) for index in range(count)])
    return all(np.array_equal(run(_rows(arrays, 0, size)), alone[:size]) for size in range(2, count + 1))


def scores_ignore_threads(
    one: Callable[[TokenArrays], npt.NDArray[np.float32]],
    several: Callable[[TokenArrays], npt.NDArray[np.float32]],
    max_length: int,
) -> bool:
    """Compare a long pair's score in two sessions of one graph; False where the graph takes no such pair.

    Args:
        one: scores a batch on one thread, float32 (b, labels).
        several: the same on several.
        max_length: tokens that the model takes.
    """
    ids = 1 + np.arange(min(LENGTH_FOR_THREADS, max_length), dtype=np.int64)[None] % 2
    arrays = TokenArrays(ids, np.ones_like(ids), np.zeros_like(ids))
    try:
        return np.array_equal(one(arrays), several(arrays))
    except InferenceError:  # a graph of fixed shape
        return False


def _rows(arrays: TokenArrays, start: int, stop: int) -> TokenArrays:
    """Some rows, without the columns that are padding in all of them."""
    longest = int(arrays.attention_mask[start:stop].sum(axis=1).max())
    return TokenArrays(
        arrays.input_ids[start:stop, :longest],
        arrays.attention_mask[start:stop, :longest],
        arrays.token_type_ids[start:stop, :longest],
    )
