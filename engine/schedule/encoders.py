"""Encoding piece by piece, each piece in its turn: in the caller's thread, or in threads of their own.

A synchronous call encodes in its own thread, which costs no hand-over. Beside an event loop, and where a deadline must
hold although a text takes longer than predicted, encoder threads do it; they are never more than may encode at once,
so a piece whose turn has come waits for no thread.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Generic, TypeVar

from crossrank.engine.schedule.encoding_pieces import EncodingSpeed, Piece
from crossrank.engine.schedule.encoding_turns import EncodingTurns
from crossrank.engine.schedule.ordering import place_of
from crossrank.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossrank.engine.plan.run_times import RunTimes
    from crossrank.engine.schedule.encoding_pieces import Pieces
    from crossrank.engine.schedule.request import Terms

_Result = TypeVar("_Result")
_ANY_PIECE = Piece(0.0)
_LOOK_AGAIN_SECONDS = 1.0
"""How long a thread waits for its turn before it makes sure that an interrupt of another did not lose it."""


class OutOfTime(Exception):  # noqa: N818  not an error of its own: the call answers with what it has
    """The deadline of a call came while its texts were encoded."""


class Encoders:
    """Encodes for all callers of one scheduler.

    Attributes:
        speed: predicts how long texts take.
        turns: who may encode.
    """

    def __init__(self, times: RunTimes, clock: Callable[[], float]) -> None:
        """Prepare; threads start when they are needed.

        Args:
            times: of the runs; as many pieces are encoded at once as there are workers, and at least two.
            clock: seconds that only grow; deadlines are points on it.
        """
        self.speed = EncodingSpeed()
        self._threads = max(2, times.workers)
        self.turns = EncodingTurns(self._threads)
        self._times = times
        self._clock = clock
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def run(self, pieces: Pieces[_Result], terms: Terms, scoring_seconds: float, first: Piece = _ANY_PIECE) -> _Result:
        """Do all pieces of a call and wait for the result.

        Args:
            pieces: the work.
            terms: of the call.
            scoring_seconds: predicted for its runs; the call's remaining work is that and what is left to encode.
            first: what is predicted before the work was looked at.

        Raises:
            OutOfTime: the deadline came; what is left is not encoded.
        """
        if terms.deadline is None:
            return self._run_here(pieces, terms, scoring_seconds)
        future = self.begin(pieces, terms, scoring_seconds, first)
        try:
            wait((future,), self.seconds_left(terms))
            if not future.done():
                raise OutOfTime
            return future.result()
        finally:
            future.cancel()

    def seconds_left(self, terms: Terms) -> float | None:
        """Until a call's deadline, and not longer than a thread can wait; None where there is none."""
        if terms.deadline is None:
            return None
        return min(max(0.0, terms.deadline - self._clock()), threading.TIMEOUT_MAX)

    def begin(self, pieces: Pieces[_Result], terms: Terms, scoring_seconds: float, first: Piece) -> Future[_Result]:
        """Let encoder threads do all pieces of a call; cancelling the future ends that after the piece in progress."""
        job = _Job(self, pieces, lambda piece: place_of(piece.seconds_left + scoring_seconds, terms, self._times))
        job.ask(first)
        return job.future

    def in_thread(self, work: Callable[[], None]) -> None:
        """Let an encoder thread do a piece whose turn has come. The threads end with this object.

        Raises:
            ClosedError: the interpreter ends.
        """
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="crossrank-encoder")
            try:
                self._pool.submit(work)
            except RuntimeError as error:
                raise ClosedError("the interpreter ends; nothing is encoded any more") from error

    def abandon_after_fork(self) -> None:
        """In a child process: forget the threads, which do not exist here, and locks that they may have held."""
        self._lock = threading.Lock()
        self.turns.abandon_after_fork()

    def _run_here(self, pieces: Pieces[_Result], terms: Terms, scoring_seconds: float) -> _Result:
        turn = self.turns.new()
        try:
            while True:
                piece = next(pieces)
                if not turn.begins_at_once(large=piece.large):
                    turn.end()
                    came = threading.Event()
                    place = place_of(piece.seconds_left + scoring_seconds, terms, self._times)
                    turn.ask(place, came.set, large=piece.large)
                    while not came.wait(_LOOK_AGAIN_SECONDS):
                        self.turns.start_next()
        except StopIteration as end:
            result: _Result = end.value
            return result
        finally:
            turn.end()


class _Job(Generic[_Result]):
    """The pieces of one call, done in encoder threads."""

    def __init__(self, encoders: Encoders, pieces: Pieces[_Result], place: Callable[[Piece], float]) -> None:
        self.future: Future[_Result] = Future()
        self._encoders = encoders
        self._pieces = pieces
        self._place = place
        self._asked = self._looked_at = False
        self._turn = turn = encoders.turns.new()
        self.future.add_done_callback(lambda done: turn.end(only_waiting=True) if done.cancelled() else None)

    def ask(self, piece: Piece) -> None:
        """Wait for the turn of the next piece."""
        self._asked = True
        self._turn.ask(self._place(piece), self._start, large=piece.large)

    def _start(self) -> None:
        if self._asked:
            self._asked = False
            try:
                self._encoders.in_thread(self._go_on)
            except ClosedError as error:
                self._end(None, error)

    def _go_on(self) -> None:
        try:
            while not self.future.cancelled():
                piece = next(self._pieces)
                first, self._looked_at = not self._looked_at, True
                if first and not piece.large:
                    continue  # so far the work was only looked at, and the turn is for its first piece
                if not self._turn.begins_at_once(large=piece.large):
                    self._turn.end()
                    self.ask(piece)
                    return
        except StopIteration as end:
            self._end(end.value, None)
        except BaseException as error:  # whatever it is, its caller waits for it
            self._end(None, error)
        else:
            self._pieces.close()
            self._turn.end()

    def _end(self, result: _Result | None, error: BaseException | None) -> None:
        self._turn.end()
        with contextlib.suppress(InvalidStateError):  # cancelled at this moment
            if error is None:
                self.future.set_result(result)  # type: ignore[arg-type]
            else:
                self.future.set_exception(error)
