"""Scores that were computed before, by what they were computed from.

A key is two digests of fixed size one after the other: of everything on the query's side (graph, lengths, windows,
query), and of the document's text. Two different pairs share a key only where BLAKE2b collides at 128 bits. The query's
side is hashed once a call and a document once, however many queries it meets.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, NamedTuple

from cachetools import LRUCache

from crossrank.engine import process
from crossrank.engine.call.results import ScoreCacheInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crossrank.engine.call.results import DocumentWindow

_DIGEST_BYTES = 16
ENTRY_BYTES = 520
"""What an entry without a window counts: key, value and the cache's own tables. Measured with tracemalloc for 100 to
44 000 entries (CPython 3.11, cachetools 8): 340 to 517 bytes at the peak, since the tables grow by doubling."""
WINDOW_BYTES = 200
"""What the window adds; measured likewise: 192."""


class KnownScore(NamedTuple):
    """What scoring a pair gave.

    Attributes:
        logit: of the document; a float holds every float32 exactly.
        truncated: whether a part of the document was not read.
        query_truncated: whether a part of the query was not read.
        window: where the best window lies, where windows were read.
    """

    logit: float
    truncated: bool
    query_truncated: bool
    window: DocumentWindow | None


def digest(*parts: str) -> bytes:
    """16 bytes that stand for some texts in order; their lengths are hashed too, so no two lists read the same."""
    state = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        raw = part.encode()
        if len(parts) > 1:
            state.update(len(raw).to_bytes(8, "little"))
        state.update(raw)
    return state.digest()


class ScoreCache:
    """A bounded cache of scores that forgets the least recently used. Safe to use from several threads.

    A child of `fork` starts with an empty one: another thread may have been changing it when the process forked.
    """

    def __init__(self, max_bytes: int) -> None:
        """Make an empty cache.

        Args:
            max_bytes: what its entries may take together; an entry takes about 500.
        """
        self._max_bytes = max_bytes
        self.forget_after_fork()
        process.bind(self)

    def look_up(self, keys: Sequence[bytes]) -> list[KnownScore | None]:
        """What is known of each key."""
        with self._lock:
            entries = [self._entries.get(key) for key in keys]
            missed = entries.count(None)
            self._misses += missed
            self._hits += len(entries) - missed
        return entries

    def store(self, scores: Iterable[tuple[bytes, KnownScore]]) -> None:
        """Remember scores, forgetting the least recently used where there is no room."""
        with self._lock:
            for key, score in scores:
                if _size(score) <= self._max_bytes:
                    self._entries[key] = score

    def info(self) -> ScoreCacheInfo:
        """Hits, misses and size so far."""
        with self._lock:
            entries = self._entries
            return ScoreCacheInfo(self._hits, self._misses, len(entries), int(entries.currsize), self._max_bytes)

    def clear(self) -> None:
        """Forget all entries; the counters stay."""
        with self._lock:
            self._entries.clear()

    def forget_after_fork(self) -> None:
        """Begin anew, without waiting for whoever uses the cache: for the constructor and a child of `fork`."""
        self._lock = threading.Lock()
        self._entries: LRUCache[bytes, KnownScore] = LRUCache(self._max_bytes, _size)
        self._hits = self._misses = 0


def _size(score: KnownScore) -> int:
    return ENTRY_BYTES if score.window is None else ENTRY_BYTES + WINDOW_BYTES
