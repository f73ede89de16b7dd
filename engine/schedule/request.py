"""What the scheduler handles: requests, the runs made of their batches, and the answers."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from crossrank.engine.plan.planner import Batch
    from crossrank.engine.text.encoded import EncodedPairs
    from crossrank.errors import CrossrankError

HIGHEST_PRIORITY, LOWEST_PRIORITY = 4, -4


@dataclass(frozen=True, slots=True)
class FailedPair:
    """Why a pair has no score, whatever time it is given.

    Attributes:
        error: in words.
        in_run: whether a run of this pair alone failed; else it gave something that is no number, or there was nothing
            to run.
    """

    error: CrossrankError
    in_run: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a request.

    Attributes:
        outputs: the model's outputs in the pairs' order, float32 (n, labels); undefined where not scored.
        scored: which pairs were scored, bool (n,). All of them, unless the deadline came before, or some
            failed.
        failed: those that failed, by their indices.
    """

    outputs: npt.NDArray[np.float32]
    scored: npt.NDArray[np.bool_]
    failed: Mapping[int, FailedPair] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a caller asks for besides its scores. Points in time are on the scheduler's clock.

    Attributes:
        arrival: when its call began.
        priority: from `LOWEST_PRIORITY` to `HIGHEST_PRIORITY`; a step counts as half the work.
        deadline: when it waits no longer, or None.
        grace: seconds after the deadline for which runs in progress are still waited for.
        work_behind: predicted seconds of the same call's pairs that are not submitted yet.
        encode_seconds: what encoding its pairs took, for the statistics; None where it was done before.
        expected: predicted seconds of its pairs before they were encoded; None where nothing was predicted.
    """

    arrival: float
    priority: int = 0
    deadline: float | None = None
    grace: float = 0.0
    work_behind: float = 0.0
    encode_seconds: float | None = None
    expected: float | None = None


@dataclass(slots=True, eq=False)
class Request:
    """Pairs that one caller waits for. Once submitted, the scheduler's owner thread alone changes it.

    Attributes:
        number: distinguishes the scheduler's requests; later ones have larger numbers.
        pairs: n encoded pairs.
        batches: those not started yet, in the order to start them.
        outputs: filled as runs finish, float32 (n, labels).
        scored: which pairs have their outputs, bool (n,).
        failed: pairs that failed when they were run alone, or that have no token, by their indices.
        given_up: whether so many failed, with none scored, that the rest is not tried.
        apart: whether a run of it failed, so that its pairs share runs with no other request's.
        terms: what its caller asked for.
        future: what its caller waits on.
        remaining: predicted seconds of the batches not started yet.
        as_expected: predicted seconds before its pairs were encoded over those after.
        waiting_tokens: tokens of the pairs not started yet.
        in_flight: runs in progress that hold pairs of it.
        started: when its first run was handed out.
        all_cores: whether that run took all cores.
        done: whether it was answered.
    """

    number: int
    pairs: EncodedPairs
    batches: deque[Batch]
    outputs: npt.NDArray[np.float32]
    scored: npt.NDArray[np.bool_]
    terms: Terms
    future: Future[Outcome] = field(default_factory=Future)
    remaining: float = 0.0
    as_expected: float = 1.0
    waiting_tokens: int = 0
    in_flight: int = 0
    started: float | None = None
    all_cores: bool = False
    done: bool = False
    failed: dict[int, FailedPair] = field(default_factory=dict)
    given_up: bool = False
    apart: bool = False

    def __post_init__(self) -> None:
        """Add up the work."""
        self.remaining = sum(batch.seconds for batch in self.batches)
        self.waiting_tokens = int(self.pairs.lengths.sum())
        if self.terms.expected is not None and self.remaining > 0:
            self.as_expected = self.terms.expected / self.remaining

    def take(self, index: int = 0) -> Part:
        """Take a waiting batch, the next one by default."""
        batch = self.batches[index]
        del self.batches[index]
        self.remaining -= batch.seconds
        tokens = int(self.pairs.lengths[batch.indices].sum())
        part = Part(self, batch, tokens)
        self.waiting_tokens -= part.tokens
        return part

    def put_back(self, batches: Sequence[Batch]) -> int:
        """Let batches of pairs that were taken wait again, behind those that wait; returns their tokens."""
        tokens = sum(int(self.pairs.lengths[batch.indices].sum()) for batch in batches)
        self.batches.extend(batches)
        self.remaining += sum(batch.seconds for batch in batches)
        self.waiting_tokens += tokens
        return tokens

    def drop_batches(self) -> int:
        """Forget what has not started; returns its tokens."""
        tokens, self.waiting_tokens, self.remaining = self.waiting_tokens, 0, 0.0
        self.batches.clear()
        return tokens

    def settle_failures(self) -> None:
        """Where the rest was given up, count it as failed for the reason of the first that failed."""
        if self.given_up:
            reason = next(iter(self.failed.values()))
            for index in np.flatnonzero(~self.scored).tolist():
                self.failed.setdefault(index, reason)

    def all_runs_failed(self) -> bool:
        """Whether there were runs and each failed."""
        return bool(self.failed) and not self.scored.any() and all(pair.in_run for pair in self.failed.values())

    def outcome(self) -> Outcome:
        """The answer as it stands, not touched by runs that finish later."""
        if self.in_flight:
            return Outcome(self.outputs.copy(), self.scored.copy(), dict(self.failed))
        return Outcome(self.outputs, self.scored, self.failed)


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a run that belong to one request.

    Attributes:
        request: whose they are.
        batch: which of its pairs, and what a run of theirs alone would be.
        tokens: tokens of all of them, without padding.
    """

    request: Request
    batch: Batch
    tokens: int

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """Which of the request's pairs, int64 (b,)."""
        return self.batch.indices


@dataclass(frozen=True, slots=True)
class Run:
    """Pairs that go through a session together.

    Attributes:
        parts: whose pairs.
        length: padded tokens of each row.
        seconds: predicted time on one core, before correction by what was observed.
        run_tokens: tokens that it works on, padding included.
        all_cores: whether it takes all cores.
    """

    parts: tuple[Part, ...]
    length: int
    seconds: float
    run_tokens: int
    all_cores: bool = False

    @property
    def rows(self) -> int:
        """Pairs of the run."""
        return sum(len(part.indices) for part in self.parts)

    @property
    def tokens(self) -> int:
        """Tokens without padding."""
        return sum(part.tokens for part in self.parts)


def new_request(number: int, pairs: EncodedPairs, batches: Iterable[Batch], labels: int, terms: Terms) -> Request:
    """A request with nothing scored. Pairs without a token have failed already: no run could give them a score.

    Args:
        number: distinguishes it.
        pairs: n encoded pairs.
        batches: together hold each pair that has a token exactly once.
        labels: columns of the outputs.
        terms: what its caller asks for.
    """
    return Request(
        number=number,
        pairs=pairs,
        batches=deque(batches),
        outputs=np.zeros((len(pairs.lengths), labels), dtype=np.float32),
        scored=np.zeros(len(pairs.lengths), dtype=np.bool_),
        terms=terms,
        failed={int(index): FailedPair(_no_token(), in_run=False) for index in np.flatnonzero(pairs.lengths == 0)},
    )


def _no_token() -> InvalidInputError:
    return InvalidInputError(
        "the tokenizer makes no token of this query and this document, and puts none around them, so the model has "
        "nothing to read; leave pairs without text out"
    )
