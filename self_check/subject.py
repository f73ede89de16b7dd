"""What is checked: an artifact on a provider, and how to open the engine on it.

Every check opens its engines through `Subject.open`; tests replace it to check an engine that is wrong.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from crossrank.benchmarks.harness.engine_options import engine_options
from crossrank.engine.runtime.providers import choose_graph
from crossrank.errors import PrecisionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from crossrank.engine.call.results import RerankerInfo
    from crossrank.models.artifact import Artifact
    from crossrank.models.manifest import Graph, Precision, PrecisionChoice, Provider
    from crossrank.self_check.result import CheckResult
    from crossrank.self_check.texts import CheckTexts

_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


class Engine(Protocol):
    """What the checks use of a reranker whose scores are logits."""

    def score(self, query: str, documents: Sequence[str]) -> npt.NDArray[np.float32]:
        """Logits in the documents' order."""
        ...

    def score_pairs(self, pairs: Iterable[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """Logits in the pairs' order."""
        ...

    def info(self) -> RerankerInfo:
        """What the engine runs: graph, provider, CUDA graphs."""
        ...

    def close(self) -> None:
        """Free sessions and threads."""
        ...


class Opener(Protocol):
    """Opens an engine of a precision; `cuda_graphs` says whether its runs are captured as CUDA graphs."""

    def __call__(self, precision: Precision, *, cuda_graphs: bool) -> Engine:
        """Open an engine."""
        ...


@dataclass(frozen=True)
class Subject:
    """An artifact on a provider.

    Attributes:
        artifact: opened, its files verified.
        provider: execution provider, already probed.
        device: CUDA device id; ignored on the CPU.
        texts: what is scored.
        open: opens an engine.
    """

    artifact: Artifact
    provider: Provider
    device: int
    texts: CheckTexts
    open: Opener

    @contextmanager
    def engine(self, precision: Precision, *, cuda_graphs: bool = True) -> Iterator[Engine]:
        """An open engine, closed when the context ends."""
        engine = self.open(precision, cuda_graphs=cuda_graphs)
        try:
            yield engine
        finally:
            engine.close()

    def graph(self, precision: PrecisionChoice) -> Graph:
        """The graph that the engine runs for a precision; "auto" gives the one that users get by default."""
        return choose_graph(self.artifact, self.provider, precision)

    def precisions(self) -> list[Precision]:
        """Every precision for which the artifact has a graph that runs on the provider."""
        available: list[Precision] = []
        for precision in _PRECISIONS:
            try:
                self.graph(precision)
            except PrecisionError:
                continue
            available.append(precision)
        return available


Check: TypeAlias = "Callable[[Subject, Precision], CheckResult]"
"""A check of one precision: given the subject and the precision, it compares scores and says what it found. It raises
`CrossrankError` where the engine fails."""


def opener(artifact: Artifact, provider: Provider, device: int) -> Opener:
    """Opens the real engine on a provider."""

    def open_engine(precision: Precision, *, cuda_graphs: bool) -> Engine:
        from crossrank import Reranker

        options = engine_options(provider, device=device, cuda_graphs=cuda_graphs)
        return Reranker(artifact.folder, precision=precision, activation="identity", **options)

    return open_engine
