"""Who takes part, and the process each runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.contenders import Contender
from crossrank.benchmarks.worker_process import WorkerProcess
from crossrank.models.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.benchmarks.load.arrivals import Arrival
    from crossrank.models.manifest import Precision

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
        "sentence-transformers CrossEncoder, torch, a thread a core",
        "sentence-transformers",
        "sentence_transformers_load_adapter",
        weights={"checkpoint": "checkpoint"},
    ),
)


def own_contender(folder: Path, precision: Precision) -> Contender:
    """The engine itself."""
    return Contender(
        f"crossrank-{precision}",
        f"crossrank AsyncReranker, {precision}",
        None,
        "crossrank_load_adapter",
        {"model": str(folder), "precision": precision},
    )


def chosen_load_peers(names: Sequence[str] | None) -> list[Contender]:
    """Peers by name, all of them for None.

    Raises:
        InvalidInputError: a name is none of a peer.
    """
    by_name = {peer.name: peer for peer in LOAD_PEERS}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise InvalidInputError(f"peers {', '.join(unknown)}: expected are {', '.join(by_name)}")
    return [by_name[name] for name in (by_name if names is None else names)]


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
