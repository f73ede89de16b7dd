"""Who takes part, and the process each runs in."""

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
        "infinity_load_adapter",
        weights={"checkpoint": "checkpoint"},
    ),
    Contender(
        "sentence-transformers",
        "sentence-transformers CrossEncoder, torch behind a pool of threads",
        "sentence-transformers",
        "sentence_transformers_load_adapter",
        weights={"checkpoint": "checkpoint"},
    ),
)


def own_contender(folder: Path, precision: Precision, provider: Provider = "cpu") -> Contender:
    """The engine itself."""
    return Contender(
        f"crossrank-{precision}",
        f"crossrank AsyncReranker, {precision}",
        None,
        "crossrank_load_adapter",
        {"model": str(folder), "precision": precision, "device": provider},
    )


def chosen_load_peers(names: Sequence[str] | None, provider: Provider = "cpu") -> list[Contender]:
    """Peers by name, all of them for None, on a provider; each of them runs on both.

    Raises:
        InvalidInputError: a name is none of a peer.
    """
    return chosen_peers(names, provider, among=LOAD_PEERS)[0]


class LoadProcess(WorkerProcess):
    """A running `workers/load_worker.py`."""

    SCRIPT = "load_worker.py"

    def give_texts(self, query: str, documents: Sequence[str]) -> None:
        """Hand over what requests take their texts from."""
        self._ask(60.0, command="texts", query=query, documents=list(documents))

    def closed_loop(self, *, callers: int, seconds: float, sizes: Sequence[int]) -> dict[str, Any]:
        """Callers that ask again as soon as they are answered; pairs, requests, seconds, and the requests' times."""
        return self._ask(600.0 + 10 * seconds, command="closed", callers=callers, seconds=seconds, sizes=list(sizes))

    def open_loop(self, arrivals: Sequence[Arrival], *, drain: float) -> dict[str, Any]:
        """Requests at their moments; the outcome of each, in order."""
        plan = [[arrival.due, arrival.first, arrival.count] for arrival in arrivals]
        longest = (arrivals[-1].due if arrivals else 0.0) + drain
        return self._ask(600.0 + 10 * longest, command="open", arrivals=plan, drain=drain)
