"""How much may wait: a bound in tokens, checked before a call costs anything.

The bound holds from the call's first moment, so a flood of calls cannot pile up in front of the encoder either. Tokens
count until their run starts.
"""

from __future__ import annotations

import threading

from crossrank.models.errors import ClosedError, Overloaded

_SHORTEST_RETRY = 0.01


class Admission:
    """Counts waiting tokens and open calls. Safe to use from several threads."""

    def __init__(self, max_queue_tokens: int | None) -> None:
        """Start empty.

        Args:
            max_queue_tokens: tokens that may wait; None leaves the bound to the single calls.
        """
        self._limit = max_queue_tokens
        self._lock = threading.Lock()
        self._closed = False
        self.tokens = 0
        self.calls = 0
        self.refused = 0

    @property
    def closed(self) -> bool:
        """Whether no call is let in any more."""
        return self._closed

    def enter(self, tokens: int, *, tokens_per_second: float, queue_seconds: float | None, goes_on: bool) -> None:
        """Let a call in.

        Args:
            tokens: what it will let wait, as far as known.
            tokens_per_second: how fast waiting tokens are worked off.
            queue_seconds: bounds the waiting tokens to what so many seconds work off, where no number was fixed; None
                leaves them unbounded.
            goes_on: whether it was let in before, and only `close` keeps it out.

        Raises:
            Overloaded: it would exceed the bound, and something waits already. A call larger than the bound itself
                is let in when nothing waits.
            ClosedError: `close` was called.
        """
        limit: float | None = self._limit
        if limit is None and queue_seconds is not None:
            limit = queue_seconds * tokens_per_second
        with self._lock:
            if self._closed:
                raise ClosedError("this reranker was closed; make a new one")
            if limit is not None and not goes_on and self.tokens > 0 and self.tokens + tokens > limit:
                self.refused += 1
                excess = min(self.tokens, self.tokens + tokens - limit)
                retry = max(_SHORTEST_RETRY, excess / tokens_per_second)
                raise Overloaded(
                    f"{self.tokens} tokens wait to be scored and this call would add {tokens}; at most {limit:.0f} "
                    f"may wait (max_queue_tokens). Try again in about {retry:.2f} s",
                    retry_after=retry,
                )
            self.tokens += tokens
            self.calls += 1

    def change(self, tokens: int) -> None:
        """Correct the waiting tokens by a difference."""
        with self._lock:
            self.tokens += tokens

    def leave(self, tokens: int) -> None:
        """Account for a call's end, and for the tokens it had announced and not submitted."""
        with self._lock:
            self.tokens -= tokens
            self.calls -= 1

    def close(self) -> None:
        """Let nobody in any more."""
        with self._lock:
            self._closed = True
