"""What has to be closed, as a context manager: rerankers, cascades, cross-encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class ClosedOnLeaving:
    """May be used in a `with` statement, whose end closes it."""

    # No abstract class: its metaclass would show in classes that refuse attributes they do not have.
    def close(self) -> None:
        """Free what is held. Closing twice does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Use as a context manager; leaving it closes."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
