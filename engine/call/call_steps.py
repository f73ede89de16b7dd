"""The way of a call, written once for threads and event loops: checked, accepted, scored chunk by chunk, answered.

A call without a deadline is a call of one chunk, but for early rankings and many documents on a GPU. `drivers.py` does
the waiting.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Generic, TypeVar

from crossrank.engine.call.arguments import Arguments, RankArguments, listed
from crossrank.engine.call.drivers import Encode
from crossrank.engine.call.ranking import ranking
from crossrank.engine.call.scoring import Scoring
from crossrank.engine.schedule.admission import AdmittedCall
from crossrank.engine.schedule.encoders import OutOfTime
from crossrank.engine.schedule.encoding_pieces import Piece
from crossrank.errors import ClosedError, DeadlineExceeded, InferenceError, TruncationWarning

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.call.arguments import Caller
    from crossrank.engine.call.candidates import CallSize
    from crossrank.engine.call.drivers import Steps
    from crossrank.engine.call.encoded_candidates import DocumentScores
    from crossrank.engine.call.results import RankResult
    from crossrank.engine.schedule.encoding_pieces import Pieces

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
        self, caller: Caller, check: Callable[[], AnyArguments], size: CallSize, *, early: bool = False
    ) -> None:
        """Check the arguments, unless that would hold up an event loop: then a thread does it later.

        Where the deadline comes before that thread is done, the loop checks them itself: the answer names documents.

        Args:
            caller: who waits for it.
            check: checks its arguments and finds its candidates.
            size: of its arguments.
            early: whether scores of the first candidates are wanted before all are scored.

        Raises:
            InvalidInputError: an argument cannot be used.
            ClosedError: the model was closed.
        """
        self.model, self._scheduler, self.limit, self._loop = caller
        self.encoders = self._scheduler.encoders
        self._check = check
        self._size = size
        self._seconds = self._scheduler.expected_seconds(size.tokens, size.documents)
        self._early = early
        self._scoring: Scoring | None = None
        self._accepted = self._answered = False
        if caller.loop is None or size.small:
            self._take(check())

    def scores(self) -> Steps[DocumentScores]:
        """All scores that there will be.

        Raises:
            InvalidInputError: an argument cannot be used.
            InferenceError: all runs failed.
            Overloaded: it would wait too long, or too much waits already.
            ClosedError: the model was closed.
        """
        if self._scoring is not None and self._scoring.complete:
            return self._scoring.document_scores()  # all known: that costs the queue nothing
        with self._admit() as admitted:
            scoring = self._scoring or (yield from self._checked())
            return (yield from scoring.all_scores(admitted))

    def next_ranking(self: Call[RankArguments]) -> Steps[RankResult | None]:
        """A better ranking than before, and None after the last. For exceptions see `scores`.

        Each chunk is accepted by itself: a stream that nobody reads on must not keep the model from closing.
        """
        if self._answered:
            return None
        scoring = self._scoring
        more = scoring is None or not scoring.complete
        if more:
            with self._admit() as admitted:
                scoring = scoring or (yield from self._checked())
                more = yield from scoring.next_scores(admitted)
        assert scoring is not None  # noqa: S101  for the type checker
        self._answered = not more or scoring.complete
        return self.ranking(scoring.document_scores(), final=self._answered)

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
            TruncationWarning: something was longer than the model takes or than `shortened` leaves.
        """
        logits = self.complete_logits(scores, name, advice=". rank() scores the others")
        if scores.anything_truncated:
            # The text is constant, so that Python's default filter shows it once a place and not once a call.
            warnings.warn(
                "some texts were longer than the model takes, or than shortened() leaves, and were cut; rank() says "
                "which, info() has the limits",
                TruncationWarning,
                stacklevel=3,
            )
        return self.model.activated(logits)

    def complete_logits(
        self, scores: DocumentScores, name: Callable[[int], str], *, advice: str = ""
    ) -> npt.NDArray[np.float32]:
        """The logits of a call that asks for all of them, float32 (n,).

        Args:
            scores: what there is.
            name: how the caller calls its pair of an index.
            advice: ends the message about pairs without a score.

        Raises:
            InferenceError: as `complete_scores`.
            DeadlineExceeded: as `complete_scores`.
        """
        if scores.failed:
            first, *others = sorted(scores.failed)
            error = scores.failed[first].error
            also = f"; so {'has' if len(others) == 1 else 'have'} {listed(others, name)}" if others else ""
            raise InferenceError(f"{name(first)} has no score: {error}{also}{advice}") from error
        if not scores.scored.all():
            raise DeadlineExceeded(
                f"{int(scores.scored.sum())} of {len(scores.scored)} pairs were scored within "
                f"{(self.limit.seconds or 0) * 1000:.0f} ms; rank(deadline_ms=...) gives what there is"
            )
        return scores.logits

    def cancel(self) -> None:
        """Drop what has not started."""
        if self._scoring is not None:
            self._scoring.cancel()

    def _admit(self) -> AdmittedCall:
        """Enter the queue with an estimate of the work, before anything is encoded."""
        size, continues, self._accepted = self._size, self._accepted, True
        if continues and self._scoring is not None:
            try:
                self._scheduler.admission.check_process()
            except ClosedError:
                self._scoring.forget()
                raise
        return AdmittedCall(
            self._scheduler,
            0 if continues else size.tokens,
            seconds=0.0 if continues else self._seconds,
            terms=self.limit.terms() if self._scoring is None else self._scoring.terms,
            continues=continues,
            loop=self._loop,
        )

    def _checked(self) -> Steps[Scoring]:
        """Check the arguments of a large call in a thread, which an event loop waits for."""
        first = Piece(self.encoders.speed.seconds(self._size.documents, self._size.characters))
        try:
            return self._take((yield Encode(_one_piece(self._check), self.limit.terms(), 0.0, first)))
        except OutOfTime:
            return self._take(self._check())  # an answer without a score names the documents, too

    def _take(self, arguments: AnyArguments) -> Scoring:
        self.arguments = arguments
        limit = self.limit if self.limit.seconds is None else self.limit.earlier(arguments.seconds_after)
        self._scoring = Scoring(
            self.model,
            self._scheduler,
            arguments,
            limit,
            early=self._early,
            seconds=self._seconds,
            characters=self._size.characters,
        )
        return self._scoring


def _one_piece(work: Callable[[], AnyArguments]) -> Pieces[AnyArguments]:
    yield Piece(0.0)
    return work()
