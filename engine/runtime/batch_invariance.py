"""Batch invariance: whether a pair's score is the same to the last bit alone and in a batch, on one core and on all.

An int8 score must not depend on the other pairs of its batch. So an int8 graph runs several pairs at once only if it
passes these checks: at export over many lengths, and again on a small batch wherever it is loaded, because another
processor uses other routines. An 'equal_length' graph is tried on pairs of one length, a 'packed' one on pairs of
different lengths. Which kinds are tried their attributes say (`BatchKind.pads`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.plan.batch_kinds import SinglePairs
from crossrank.engine.text.encoded import TokenArrays
from crossrank.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from crossrank.engine.plan.batch_kinds import BatchKind
    from crossrank.engine.text.encoded import EncodedPairs
    from crossrank.engine.text.encoding import PairEncoder
    from crossrank.models.manifest import ReferencePair

LENGTH_AT_LOAD = 16
ROWS_AT_LOAD = 3
LENGTH_FOR_THREADS = 320
"""Tokens of the pair that is tried on several threads. It is more than 256 because onnxruntime sums in blocks of at
most 256 where a matrix has 33 columns or more."""


def usable_kind(
    declared: BatchKind,
    pairs: Sequence[ReferencePair],
    encoder: PairEncoder,
    run: Callable[[TokenArrays], npt.NDArray[np.float32]],
) -> BatchKind:
    """Check the manifest's kind of batch on this machine, and fall back to single pairs if scores depend on the batch.

    Args:
        declared: the manifest's kind. Where it pads, or runs pairs alone, there is nothing to check.
        pairs: the manifest's reference pairs; if they are too few or too short for the check, pairs run alone.
        encoder: of the artifact.
        run: scores a batch, float32 (b, labels).
    """
    if declared.pads or not declared.shares_runs:
        return declared
    encoded = encoder.pair(
        [encoder.encode_query(pair.query) for pair in pairs],
        np.arange(len(pairs)),
        encoder.encode_documents([pair.document for pair in pairs]),
    )
    arrays = rows_of_length(encoder, encoded, min(LENGTH_AT_LOAD, encoder.max_length), ROWS_AT_LOAD)
    if arrays is not None and declared.mixes_lengths:
        arrays = shortened(arrays, encoder.pad_token_id)
    if arrays is not None and scores_ignore_other_pairs(run, arrays):
        return declared
    return SinglePairs(declared.cost, declared.max_batch_tokens)


def rows_of_length(encoder: PairEncoder, pairs: EncodedPairs, length: int, rows: int) -> TokenArrays | None:
    """Real pairs cut to one length; None where fewer than two are long enough.

    Args:
        encoder: of the pairs.
        pairs: pairs to choose from.
        length: tokens of every row.
        rows: how many rows at most.
    """
    long_enough = np.flatnonzero(pairs.lengths >= length)
    if len(long_enough) < 2:  # noqa: PLR2004
        return None
    # Evenly spread: neighbours share a query, and a batch of similar rows could hide a difference.
    chosen = long_enough[np.unique(np.linspace(0, len(long_enough) - 1, rows).astype(np.int64))]
    arrays = encoder.assemble(pairs, chosen, int(pairs.lengths[chosen].max()))
    return TokenArrays(*(array[:, :length].copy() for array in arrays))


def shortened(arrays: TokenArrays, pad_token_id: int) -> TokenArrays:
    """The same rows cut to different lengths, from the full length of the first to half of it for the last.

    Args:
        arrays: n rows without padding.
        pad_token_id: fills up what is cut off.
    """
    rows, length = arrays.input_ids.shape
    lengths = np.linspace(length, max(1, length // 2), rows).astype(np.int64)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return TokenArrays(np.where(mask, arrays.input_ids, pad_token_id), mask, arrays.token_type_ids * mask)


def scores_ignore_other_pairs(run: Callable[[TokenArrays], npt.NDArray[np.float32]], arrays: TokenArrays) -> bool:
    """Whether each row scored alone equals the same row scored in a batch of the first 2, 3, ... rows.

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
    """Whether a long pair gets the same score on one thread and on several; False if the graph takes no pair that long.

    Args:
        one: scores a batch on one thread, float32 (b, labels).
        several: scores a batch on several threads, float32 (b, labels).
        max_length: tokens that the model takes.
    """
    ids = 1 + np.arange(min(LENGTH_FOR_THREADS, max_length), dtype=np.int64)[None] % 2
    arrays = TokenArrays(ids, np.ones_like(ids), np.zeros_like(ids))
    try:
        return np.array_equal(one(arrays), several(arrays))
    except InferenceError:  # a graph with a fixed shape
        return False


def _rows(arrays: TokenArrays, start: int, stop: int) -> TokenArrays:
    """Rows `start` to `stop`, without the columns that are padding in all of them."""
    longest = int(arrays.attention_mask[start:stop].sum(axis=1).max())
    return TokenArrays(*(array[start:stop, :longest] for array in arrays))
