"""The error hierarchy of the package.

Every error that crossrank raises on purpose derives from `CrossrankError`, so a caller can catch them all at once.
Each message says what was given, what was expected and how to fix it. Where Python has an established built-in for
the kind of mistake (a bad value, a bad type), the class derives from that as well.
"""

from __future__ import annotations


class CrossrankError(Exception):
    """Base of every error crossrank raises on purpose."""


class InvalidInputError(CrossrankError, ValueError):
    """A query, a document, a pair or an option has a value that cannot be used."""


class ArtifactError(CrossrankError):
    """An artifact is missing, damaged, foreign, or of a schema this version does not read."""


class ModelNotFoundError(CrossrankError):
    """No model of that name was found, or it would have to be fetched or exported first and cannot be."""


class CacheFolderError(CrossrankError):
    """A folder in which crossrank keeps something for later cannot be found, read or written."""


class OutputError(CrossrankError):
    """A file of scores cannot be written: it is there already, another process writes it, or the disk is full."""


class MissingDependencyError(CrossrankError, ImportError):
    """An optional package that the call needs is not installed."""


class ProviderError(CrossrankError):
    """The requested execution provider is not available here or refused the graph."""


class PrecisionError(CrossrankError):
    """The artifact has no graph of the requested precision for the provider."""


class InferenceError(CrossrankError):
    """onnxruntime failed while it scored a batch, or returned NaN or infinity."""


class ClosedError(CrossrankError):
    """The reranker was closed and cannot score any more."""


class Overloaded(CrossrankError):  # noqa: N818  named for the state, as HTTP's 503 is
    """The call would wait too long, or more tokens would wait than may.

    Attributes:
        retry_after: seconds after which the request is estimated to be accepted.
        expected_wait: seconds that it would have waited for the calls that go before it, as estimated.
    """

    def __init__(self, message: str, retry_after: float = 0.0, expected_wait: float = 0.0) -> None:
        """Keep the estimates beside the message."""
        super().__init__(message)
        self.retry_after = retry_after
        self.expected_wait = expected_wait

    def __reduce__(self) -> tuple[type[Overloaded], tuple[str, float, float]]:
        """Pickle with the estimates, for process pools."""
        return type(self), (str(self), self.retry_after, self.expected_wait)


class DeadlineExceeded(CrossrankError, TimeoutError):  # noqa: N818  named as in gRPC
    """The scores were not complete by the deadline of the call."""


class ExportError(CrossrankError):
    """A checkpoint could not be turned into an artifact."""


class UnsupportedCheckpointError(ExportError):
    """The checkpoint is no cross-encoder that crossrank can export."""


class FidelityError(ExportError):
    """A graph of the export differs from its reference by more than the bound."""


class TruncationWarning(UserWarning):
    """A document or a query was longer than the model takes and was cut."""
