"""The way of a call, written once for threads and event loops: checked, accepted, scored chunk by chunk, answered.

A call without a deadline is a call of one chunk. `drivers.py` does the waiting.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Generic, TypeVar

from crossrank.engine.call.arguments import Arguments, RankArguments
from crossrank.engine.call.drivers import Encode
from crossrank.engine.call.ranking import ranking
from crossrank.engine.call.scoring import Scoring
from crossrank.engine.schedule.admission import AdmittedCall
from crossrank.engine.schedule.encoders import OutOfTime
from crossrank.engine.schedule.encoding_pieces import Piece
from crossrank.errors import DeadlineExceeded, InferenceError, TruncationWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.call.arguments import Caller
    from crossrank.engine.call.call_size import CallSize
    from crossrank.engine.call.drivers import Steps
    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.call.results import RankResult
    from crossrank.engine.schedule.encoding_pieces import Pieces

_NAMED_PAIRS = 10
"""Pairs without a score that an error names after the first."""

AnyArguments = TypeVar("AnyArguments", bound=Arguments)


class Call(Generic[AnyArguments]):
    """One call on its way.

    Attributes:
        model: scores it.
        limit: its time.
        arguments: its checked arguments, once they are.
    """

    arguments: AnyArguments

    def __init__(
        self,
        caller: Caller,
        check: Callable[[], AnyArguments],
        size: CallSize,
        *,
        early: bool = False,
    ) -> None:
        """Check the arguments, unless that would hold up an event loop: then a thread does it later.

        Args:
            caller: who waits for it.
            check: checks its arguments and finds its candidates.
            size: of its arguments.
            early: whether scores of the first candidates are wanted before all are scored.

        Raises:
            InvalidInputError: an argument cannot be used.
            ClosedError: the model was closed.
        """
        model, limit, loop = caller
        self.model = model
        self.limit = limit
        self._scheduler = model.scheduler()
        self.encoders = self._scheduler.encoders
        self._check = check
        self._size = size
        self._tokens = model.finder.estimated_tokens(size.tokens)
        self._seconds = self._scheduler.expected_seconds(self._tokens, size.documents)
        self._early = early
        self._loop = loop
        self._scoring: Scoring | None = None
        self._accepted = self._answered = False
        if loop is None or size.small:
            self._take(check())

    def scores(self) -> Steps[DocumentScores]:
        """All scores that there will be.

        Raises:
            InvalidInputError: an argument cannot be used.
            InferenceError: all runs failed.
            Overloaded: it would wait too long, or too much waits already.
            ClosedError: the model was closed.
        """
        try:
            if not self._known():
                with self._admit() as admitted:
                    while (yield from self._next_scores(admitted)):
                        pass
        finally:
            self.cancel()
        return self._scored()

    def next_ranking(self: Call[RankArguments]) -> Steps[RankResult | None]:
        """A better ranking than before, and None after the last. For exceptions see `scores`.

        Each chunk is accepted by itself: a stream that nobody reads on must not keep the model from closing.
        """
        if self._answered:
            return None
        more = False
        if not self._known():
            with self._admit() as admitted:
                more = yield from self._next_scores(admitted)
        self._answered = not more or self._known()
        return self.ranking(self._scored(), final=self._answered)

    def ranking(self: Call[RankArguments], scores: DocumentScores, *, final: bool = True) -> RankResult:
        """The ranking of what is scored; `final` where nothing more will be."""
        arguments = self.arguments
        return ranking(
            scores,
            self.model.activated,
            arguments.items,
            arguments.order,
            top_k=arguments.top_k,
            return_documents=arguments.return_documents,
            out_of_time="deadline" if final else "pending",
        )

    def complete_scores(self, scores: DocumentScores, name: Callable[[int], str]) -> npt.NDArray[np.float32]:
        """The scores of a call that asks for all of them, float32 (n,); for a public method, whose caller is warned.

        Args:
            scores: what there is.
            name: how the caller calls its pair of an index, such as 'documents[3]'.

        Raises:
            InferenceError: some pairs have no score whatever time they are given; the message names them.
            DeadlineExceeded: not all pairs were scored.

        Warns:
            TruncationWarning: something was longer than the model takes.
        """
        if scores.failed:
            first, *others = sorted(scores.failed)
            error = scores.failed[first].error
            also = f"; so {'has' if len(others) == 1 else 'have'} {_listed(others, name)}" if others else ""
            raise InferenceError(f"{name(first)} has no score: {error}{also}. rank() scores the others") from error
        if not scores.scored.all():
            raise DeadlineExceeded(
                f"{int(scores.scored.sum())} of {len(scores.scored)} pairs were scored within "
                f"{(self.limit.seconds or 0) * 1000:.0f} ms; rank(deadline_ms=...) gives what there is"
            )
        if scores.anything_truncated:
            # The text is constant, so that Python's default filter shows it once a place and not once a call.
            warnings.warn(
                "some texts were longer than the model takes and were cut; rank() says which, info() has the limits",
                TruncationWarning,
                stacklevel=3,
            )
        return self.model.activated(scores.logits)

    def cancel(self) -> None:
        """Drop what has not started."""
        if self._scoring is not None:
            self._scoring.cancel()

    def _known(self) -> bool:
        """Whether nothing has to be scored any more: that costs the queue nothing."""
        return self._scoring is not None and self._scoring.complete

    def _scored(self) -> DocumentScores:
        assert self._scoring is not None  # noqa: S101  checked by now
        return self._scoring.document_scores()

    def _admit(self) -> AdmittedCall:
        """Enter the queue with an estimate of the work, before anything is encoded."""
        continues, self._accepted = self._accepted, True
        tokens, seconds = (0, 0.0) if continues else (self._tokens, self._seconds)
        return AdmittedCall(
            self._scheduler, tokens, seconds=seconds, terms=self.limit.terms(), continues=continues, loop=self._loop
        )

    def _next_scores(self, admitted: AdmittedCall) -> Steps[bool]:
        if self._scoring is None:
            first = Piece(self.encoders.speed.seconds(self._size.documents, self._size.characters))
            try:
                self._take((yield Encode(_one_piece(self._check), self.limit.terms(), 0.0, first)))
            except OutOfTime:
                self._take(self._check())  # an answer without a score names the documents, too
        assert self._scoring is not None  # noqa: S101  just made
        return (yield from self._scoring.next_scores(admitted))

    def _take(self, arguments: AnyArguments) -> None:
        self.arguments = arguments
        self._scoring = Scoring(
            self.model,
            self._scheduler,
            arguments,
            self.limit.earlier(arguments.seconds_after),
            early=self._early,
            seconds=self._seconds,
            characters=self._size.characters,
        )


def _listed(indices: Sequence[int], name: Callable[[int], str]) -> str:
    more = f" and {len(indices) - _NAMED_PAIRS} more" if len(indices) > _NAMED_PAIRS else ""
    return ", ".join(map(name, indices[:_NAMED_PAIRS])) + more


def _one_piece(work: Callable[[], AnyArguments]) -> Pieces[AnyArguments]:
    yield Piece(0.0)
    return work()
