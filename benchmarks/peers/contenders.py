"""The contenders of the comparison, and what each needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from crossrank.benchmarks.peers.environments import environment_on
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.result import Subject
    from crossrank.benchmarks.peers.weights import Weights
    from crossrank.models.manifest import Precision, Provider

OWN_PREFIX = "crossrank"


@dataclass(frozen=True)
class Contender:
    """A reranker that runs in its own process.

    Attributes:
        name: short name.
        title: name for tables.
        environment: which of the peers' environments it runs in; None for the one that runs the benchmark.
        adapter: module of `workers/` that loads it.
        options: passed to the adapter.
        weights: which form of the weights it loads: option name to attribute of `Weights`.
        absent: reason why it cannot run, for each provider where it cannot.
    """

    name: str
    title: str
    environment: str | None
    adapter: str
    options: Mapping[str, str | bool] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[Provider, str] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether it is crossrank itself."""
        return self.environment is None

    def on(self, provider: Provider) -> Contender:
        """The contender set up for a provider: in its environment for it, with the device among the options."""
        environment = None if self.environment is None else environment_on(self.environment, provider)
        return replace(self, environment=environment, options={**self.options, "device": provider})

    def load_options(self, weights: Weights | None) -> dict[str, str | bool]:
        """Options of the adapter, with the paths of the weights filled in."""
        return {**self.options, **{name: str(getattr(weights, form)) for name, form in self.weights.items()}}


_CHECKPOINT, _FP32, _INT8 = {"checkpoint": "checkpoint"}, {"graph": "fp32_graph"}, {"graph": "int8_graph"}
_ST = "sentence-transformers"
_CPU_ONLY: dict[Provider, str] = {"cuda": "its Ranker takes no execution provider and runs on the CPU"}


def _peer(
    name: str,
    title: str,
    *,
    product: str | None = None,
    environment: str | None = None,
    options: Mapping[str, str | bool] | None = None,
    weights: Mapping[str, str] = _CHECKPOINT,
    absent: Mapping[Provider, str] | None = None,
) -> Contender:
    """A peer whose product and environment have its name unless others are given."""
    adapter = f"{(product or name).replace('-', '_')}_adapter"
    return Contender(name, title, environment or name, adapter, options or {}, weights, absent or {})


PEERS = (
    _peer(_ST, f"{_ST} CrossEncoder, torch", options={"backend": "torch"}),
    _peer(
        f"{_ST}-fp16",
        f"{_ST} CrossEncoder, torch in fp16",
        product=_ST,
        environment=_ST,
        options={"backend": "torch", "fp16": True},
        absent={"cpu": "fp16 is for GPUs"},
    ),
    _peer(f"{_ST}-onnx", f"{_ST} CrossEncoder, onnx backend", product=_ST, options={"backend": "onnx"}),
    _peer(
        f"{_ST}-openvino",
        f"{_ST} CrossEncoder, openvino backend",
        product=_ST,
        options={"backend": "openvino"},
        absent={"cuda": "OpenVINO has no CUDA device"},
    ),
    _peer("flashrank", "FlashRank, fp32 graph", weights=_FP32, absent=_CPU_ONLY),
    _peer(
        "flashrank-int8",
        "FlashRank, int8 graph",
        product="flashrank",
        environment="flashrank",
        weights=_INT8,
        absent=_CPU_ONLY,
    ),
    _peer("fastembed", "fastembed TextCrossEncoder, fp32 graph", weights=_FP32),
    _peer("optimum", "optimum ORTModelForSequenceClassification, batches of 32", environment=f"{_ST}-onnx"),
    _peer("infinity", "infinity-emb, torch engine"),
)
LOAD_PEERS = ("infinity", "sentence-transformers")
"""The peers that run under load unless others are named."""


def own_contenders(
    artifacts: Mapping[Precision, Path], provider: Provider = "cpu", *, concurrent: bool = False
) -> list[Contender]:
    """Crossrank as a contender, once for each precision; `concurrent` takes `AsyncReranker`."""
    return [
        Contender(
            f"{OWN_PREFIX}-{precision}",
            f"crossrank{' AsyncReranker' * concurrent}, {precision}",
            None,
            "crossrank_adapter",
            {"model": str(folder), "precision": precision, "device": provider, "concurrent": concurrent},
        )
        for precision, folder in artifacts.items()
    ]


def chosen_peers(names: Sequence[str] | None, provider: Provider = "cpu") -> tuple[list[Contender], dict[str, str]]:
    """Choose peers by name and set them up for a provider.

    Args:
        names: which peers; None takes all of them.
        provider: execution provider.

    Returns:
        The chosen peers that run on the provider, and for each of the others the reason why it does not.

    Raises:
        InvalidInputError: there is no peer of a name.
    """
    by_name = {peer.name: peer for peer in PEERS}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise InvalidInputError(f"peers {', '.join(unknown)}: expected are {', '.join(by_name)}")
    chosen = [by_name[name] for name in (by_name if names is None else names)]
    absent = {peer.name: peer.absent[provider] for peer in chosen if provider in peer.absent}
    return [peer.on(provider) for peer in chosen if provider not in peer.absent], absent


def participants(names: Sequence[str] | None, subject: Subject) -> tuple[list[Contender], dict[str, str]]:
    """Choose peers as `chosen_peers`, to be measured beside a subject.

    Raises:
        InvalidInputError: there is no peer of a name, or the subject has no checkpoint for them to load.
    """
    peers, absent = chosen_peers(names, subject.provider)
    if peers and subject.checkpoint is None:
        raise InvalidInputError(
            "no checkpoint given: the peers load the model's own checkpoint; name its folder with --checkpoint"
        )
    return peers, absent


def environments_of(peers: Iterable[Contender]) -> list[str]:
    """Names of the environments that peers, set up for a provider, need."""
    return sorted({peer.environment for peer in peers if peer.environment is not None})
