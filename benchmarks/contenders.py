"""Who takes part in the comparison, and what each needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossrank.models.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.benchmarks.weights import Weights
    from crossrank.models.manifest import Precision

OWN_PREFIX = "crossrank"


@dataclass(frozen=True)
class Contender:
    """A reranker in a process of its own.

    Attributes:
        name: short name.
        title: what it is, in words.
        environment: which of the peers' environments it runs in; None for the one that runs the benchmark.
        adapter: module of `workers/` that loads it.
        options: what the adapter is given.
        weights: which form of the weights it loads: option name to attribute of `Weights`.
    """

    name: str
    title: str
    environment: str | None
    adapter: str
    options: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether this is crossrank itself."""
        return self.environment is None

    def load_options(self, weights: Weights | None) -> dict[str, Any]:
        """Options of the adapter, with the paths of the weights filled in."""
        return {**self.options, **{name: str(getattr(weights, which)) for name, which in self.weights.items()}}


PEERS: tuple[Contender, ...] = (
    Contender(
        "sentence-transformers",
        "sentence-transformers CrossEncoder, torch",
        "sentence-transformers",
        "sentence_transformers_adapter",
        {"backend": "torch"},
        {"checkpoint": "checkpoint"},
    ),
    Contender(
        "sentence-transformers-onnx",
        "sentence-transformers CrossEncoder, onnx backend",
        "sentence-transformers-onnx",
        "sentence_transformers_adapter",
        {"backend": "onnx"},
        {"checkpoint": "checkpoint"},
    ),
    Contender(
        "sentence-transformers-openvino",
        "sentence-transformers CrossEncoder, openvino backend",
        "sentence-transformers-openvino",
        "sentence_transformers_adapter",
        {"backend": "openvino"},
        {"checkpoint": "checkpoint"},
    ),
    Contender("flashrank", "FlashRank, fp32 graph", "flashrank", "flashrank_adapter", weights={"graph": "fp32_graph"}),
    Contender(
        "flashrank-int8", "FlashRank, int8 graph", "flashrank", "flashrank_adapter", weights={"graph": "int8_graph"}
    ),
    Contender(
        "fastembed",
        "fastembed TextCrossEncoder, fp32 graph",
        "fastembed",
        "fastembed_adapter",
        weights={"graph": "fp32_graph"},
    ),
    Contender(
        "optimum",
        "optimum ORTModelForSequenceClassification, batches of 32",
        "sentence-transformers-onnx",
        "optimum_adapter",
        weights={"checkpoint": "checkpoint"},
    ),
    Contender(
        "infinity", "infinity-emb, torch engine", "infinity", "infinity_adapter", weights={"checkpoint": "checkpoint"}
    ),
)


def own_contenders(artifacts: dict[Precision, Path]) -> list[Contender]:
    """The engine itself, once a precision."""
    return [
        Contender(
            f"{OWN_PREFIX}-{precision}",
            f"crossrank, {precision}",
            None,
            "crossrank_adapter",
            {"model": str(folder), "precision": precision},
        )
        for precision, folder in artifacts.items()
    ]


def chosen_peers(names: Sequence[str] | None) -> list[Contender]:
    """Peers by name, all of them for None.

    Raises:
        InvalidInputError: a name is none of a peer.
    """
    if names is None:
        return list(PEERS)
    by_name = {peer.name: peer for peer in PEERS}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise InvalidInputError(f"peers {', '.join(unknown)}: expected are {', '.join(by_name)}")
    return [by_name[name] for name in names]
