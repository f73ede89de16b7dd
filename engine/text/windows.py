"""Long documents as windows of tokens: where windows lie, and how a document's score comes from theirs.

Scoring passages and taking the best one is MaxP of Dai and Callan (SIGIR 2019); "first" is their FirstP.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy.typing as npt

Aggregation = Literal["max", "first", "mean", "top-mean"]
LongDocumentsChoice = Literal["truncate", "windows"]

PASSAGE_TOKENS = 192
"""A window where nothing else is said: about a paragraph. On documents of some 850 tokens the best window of this size
ranked better than the best of the 420 or so that a query leaves of 512; docs/benchmarks.md has the figures."""
TOP_WINDOWS = 3
"""How many of a document's best windows 'top-mean' averages."""
_OVERLAP_SHARE = 4


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How documents longer than a window are read.

    A window never holds more tokens than the query leaves room for, and windows never leave tokens between them out.
    The last window ends with the document and is as long as the others.

    Attributes:
        tokens: document tokens of a window. None reads a document that fits the model as one window, as without
            windows, and a longer one in windows of 192.
        stride: tokens from the start of one window to the next; None takes three quarters of a window.
        max_windows_per_document: windows scored of one document at most, the first ones; what comes after them is not
            read, and the result says so. None reads all.
        aggregation: a document's score is that of its best window ('max'), of its first ('first', which scores no
            other), the mean of all logits ('mean'), or of the best three ('top-mean').
    """

    tokens: int | None = None
    stride: int | None = None
    max_windows_per_document: int | None = 128
    aggregation: Aggregation = "max"

    def __post_init__(self) -> None:
        """Refuse what makes no windows.

        Raises:
            InvalidInputError: a value is outside its range, or the stride skips tokens.
        """
        for name in ("tokens", "stride", "max_windows_per_document"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise InvalidInputError(f"{name}={value!r} of the windows: a whole number of at least 1 expected")
            object.__setattr__(self, name, int(value))
        if self.tokens is not None and self.stride is not None and self.stride > self.tokens:
            raise InvalidInputError(
                f"stride={self.stride} with windows of {self.tokens} tokens would skip tokens; at most "
                f"{self.tokens} expected"
            )
        if self.aggregation not in get_args(Aggregation):
            raise InvalidInputError(
                f"aggregation={self.aggregation!r}: one of {', '.join(get_args(Aggregation))} expected"
            )

    @property
    def most(self) -> int | None:
        """Windows of a document that are scored at most; None for no bound."""
        return 1 if self.aggregation == "first" else self.max_windows_per_document

    def tokens_read(self, room: int) -> int | None:
        """Tokens of a document that are in its windows at most; None for all.

        Args:
            room: document tokens that the shortest query leaves room for. Longer queries read no further.
        """
        if self.most is None:
            return None
        size = min(self.tokens or PASSAGE_TOKENS, room)
        # A document that fits is one window where no size is given, and so is the only one that is scored of it.
        return max(size + (self.most - 1) * self._stride_of(size), room if self.tokens is None else 0)

    def _stride_of(self, size: int) -> int:
        return size - size // _OVERLAP_SHARE if self.stride is None else min(self.stride, size)


LongDocuments: TypeAlias = LongDocumentsChoice | Windows
"""What to do with documents that are too long: read their beginning, or windows of them."""


def as_windows(choice: LongDocuments) -> Windows | None:
    """The windows of a choice; None for 'truncate'.

    Raises:
        InvalidInputError: it is no such choice.
    """
    if isinstance(choice, Windows):
        return choice
    if choice not in get_args(LongDocumentsChoice):
        raise InvalidInputError(
            f"long_documents={choice!r}: {', '.join(map(repr, get_args(LongDocumentsChoice)))} or Windows(...) expected"
        )
    return Windows() if choice == "windows" else None


@dataclass(frozen=True)
class WindowCuts:
    """Where the windows of several documents lie; windows of one document are neighbours, in the document's order.

    Attributes:
        first: for each document its first window, and the number of all windows at the end, int64 (n + 1,).
        starts: token of the document that a window begins with, int64 (windows,).
        sizes: tokens of a window, int64 (windows,).
        bounded: whether tokens at the document's end are in none of its windows, bool (n,).
    """

    first: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    bounded: npt.NDArray[np.bool_]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Windows of each document, int64 (n,)."""
        return np.diff(self.first)

    @property
    def document_of(self) -> npt.NDArray[np.int64]:
        """For each window its document, int64 (windows,)."""
        return np.repeat(np.arange(len(self.bounded)), self.counts)


def cut(lengths: npt.NDArray[np.int64], room: npt.NDArray[np.int64], windows: Windows | None) -> WindowCuts:
    """Lay windows over documents.

    Args:
        lengths: tokens of each document, int64 (n,).
        room: document tokens that its query leaves room for, int64 (n,), at least 1.
        windows: how; None gives each document one window at its beginning.
    """
    if windows is None:
        first = np.arange(len(lengths) + 1, dtype=np.int64)
        return WindowCuts(first, np.zeros(len(lengths), dtype=np.int64), np.minimum(lengths, room), lengths > room)
    size = np.minimum(windows.tokens or PASSAGE_TOKENS, room)
    if windows.tokens is None:
        size = np.where((lengths <= room) | (windows.aggregation == "first"), room, size)
    stride = size - size // _OVERLAP_SHARE if windows.stride is None else np.minimum(windows.stride, size)
    needed = 1 + np.maximum(0, -((size - lengths) // stride))  # 1 + ceil((lengths - size) / stride)
    counts = needed if windows.most is None else np.minimum(needed, windows.most)
    first = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(counts, out=first[1:])
    document_of = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(first[-1]) - first[document_of]
    # Where the stride would run past the end, the last window moves back and stays whole.
    starts = np.minimum(number * stride[document_of], np.maximum(0, lengths - size)[document_of])
    return WindowCuts(first, starts, np.minimum(size, lengths)[document_of], counts < needed)


def aggregate(
    logits: npt.NDArray[np.float32], cuts: WindowCuts, aggregation: Aggregation
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Documents' logits from their windows'.

    Args:
        logits: of each window, float32 (windows,).
        cuts: the windows of n documents, at least one each.
        aggregation: how.

    Returns:
        A logit for each document, float32 (n,), and the number of its best window within it, int64 (n,): the one with
        the highest logit, the first of equals.
    """
    first = cuts.first[:-1]
    if len(logits) == len(first):  # no document has several windows
        return logits.copy(), np.zeros(len(first), dtype=np.int64)
    documents, best = logits[first].copy(), np.zeros(len(first), dtype=np.int64)
    for index in np.flatnonzero(cuts.counts > 1).tolist():
        own = logits[cuts.first[index] : cuts.first[index + 1]]
        best[index] = own.argmax()
        if aggregation == "max":
            documents[index] = own.max()
        elif aggregation != "first":
            taken = np.sort(own)[-TOP_WINDOWS:] if aggregation == "top-mean" else own
            documents[index] = taken.mean(dtype=np.float64)
    return documents, best
