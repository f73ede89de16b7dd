"""The contenders of the benchmark under load, and the process that each runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.peers.contenders import Contender, chosen_peers
from crossrank.benchmarks.peers.worker_process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.benchmarks.load.arrivals import Arrival
    from crossrank.models.manifest import Precision, Provider

LOAD_PEERS: tuple[Contender, ...] = (
    Contender(
        "infinity",
        "infinity-emb AsyncEmbeddingEngine, torch engine",
        "infinity",
        "infinity_adapter",
        weights={"checkpoint": "checkpoint"},
    ),
    Contender(
        "sentence-transformers",
        "sentence-transformers CrossEncoder, torch in a thread pool",
        "sentence-transformers",
        "sentence_transformers_adapter",
        weights={"checkpoint": "checkpoint"},
    ),
)


def own_contender(folder: Path, precision: Precision, provider: Provider = "cpu") -> Contender:
    """Crossrank's `AsyncReranker` as a contender."""
    return Contender(
        f"crossrank-{precision}",
        f"crossrank AsyncReranker, {precision}",
        None,
        "crossrank_adapter",
        {"model": str(folder), "precision": precision, "device": provider},
    )


def chosen_load_peers(names: Sequence[str] | None, provider: Provider = "cpu") -> list[Contender]:
    """The peers with these names, set up for a provider; None takes all. Each of them runs on both providers.

    Raises:
        InvalidInputError: there is no peer of a name.
    """
    return chosen_peers(names, provider, among=LOAD_PEERS)[0]


class LoadProcess(WorkerProcess):
    """A running `workers/load_worker.py`."""

    SCRIPT = "load_worker.py"

    def send_texts(self, query: str, documents: Sequence[str]) -> None:
        """Send the query and the documents that requests are made of."""
        self._ask(60.0, command="texts", query=query, documents=list(documents))

    def closed_loop(self, *, callers: int, seconds: float, sizes: Sequence[int]) -> dict[str, Any]:
        """Run callers that each send a new request as soon as the last is answered.

        Args:
            callers: how many.
            seconds: how long they go on.
            sizes: numbers of documents of their requests, in turn.

        Returns:
            `pairs`, `requests`, `seconds`, and `times`, the seconds of each request.
        """
        return self._ask(600.0 + 10 * seconds, command="closed", callers=callers, seconds=seconds, sizes=list(sizes))

    def open_loop(self, arrivals: Sequence[Arrival], *, drain: float) -> dict[str, Any]:
        """Send each request when it is due, whether or not earlier ones are answered.

        Args:
            arrivals: the requests.
            drain: seconds to wait after the last arrival for requests that are not answered.

        Returns:
            `outcomes` in the requests' order, `seconds`, `cpu_seconds` and `memory`.
        """
        plan = [[arrival.due, arrival.first, arrival.count] for arrival in arrivals]
        longest = (arrivals[-1].due if arrivals else 0.0) + drain
        return self._ask(600.0 + 10 * longest, command="open", arrivals=plan, drain=drain)
