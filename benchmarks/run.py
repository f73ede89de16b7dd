"""Runs what `crossrank bench` was asked to measure and returns one document for JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.harness.candidates import chosen_candidates
from crossrank.benchmarks.harness.environment import describe_artifact, describe_run
from crossrank.benchmarks.harness.gpu import describe_gpu
from crossrank.benchmarks.harness.models_measured import find_artifacts
from crossrank.benchmarks.harness.passages import beir_passages, standard_library_passages
from crossrank.benchmarks.harness.sampling import Effort
from crossrank.benchmarks.harness.workloads import ONE_PAIR_TOKENS, WorkloadMaker
from crossrank.benchmarks.latency.deadlines import CANDIDATES, LIMITS_MS, measure_deadlines
from crossrank.benchmarks.latency.latency_grid import measure_latency
from crossrank.benchmarks.latency.long_documents import (
    measure_long_documents,
    measure_window_times,
    read_long_documents,
)
from crossrank.benchmarks.latency.roofline import PAIR_TOKENS, measure_roofline
from crossrank.benchmarks.peers.comparison import Scenario, compare
from crossrank.benchmarks.peers.contenders import chosen_peers, own_contenders
from crossrank.benchmarks.peers.environments import interpreter
from crossrank.benchmarks.peers.weights import check_checkpoint, prepare_weights
from crossrank.engine.runtime.providers import choose_provider
from crossrank.errors import InvalidInputError
from crossrank.evaluation.beir import read_collection, read_judged_collection
from crossrank.evaluation.dependencies import require_ir_measures, require_onnx
from crossrank.models.artifact import Artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.workloads import DocumentLength
    from crossrank.benchmarks.peers.contenders import Contender
    from crossrank.models.manifest import Precision, Provider

SCHEMA_VERSION = 1
_ONE_PAIR_CALLS = 20


@dataclass(frozen=True, kw_only=True)
class BenchmarkPlan:
    """What to measure.

    Attributes:
        model: as `crossrank.Reranker` takes it.
        provider: execution provider that everything runs on.
        precisions: which to measure.
        checkpoint: folder with the model's weights, for the peers and for precisions that the artifact lacks.
        texts: BEIR folder to take documents from; None takes the standard library's documentation.
        lengths: document lengths of the latency grid; an empty sequence leaves the grid out.
        top_ks: numbers of documents of the latency grid.
        effort: how often each cell of the latency grid is called.
        peers_folder: where the peers' environments are; None leaves the comparison out.
        peers: which peers; None takes all.
        rounds: rounds of the comparison.
        curve_top_ks: top-ks of the comparison's latency curve (middle documents); an empty sequence leaves it out.
        scenarios: whether to run the comparison's three scenarios.
        roofline_rounds: rounds of the roofline; 0 leaves it out.
        long_documents: BEIR folders to join to long documents and read in windows.
        quality_queries: queries of each of all these; None takes all.
        deadlines: BEIR folders to rank under time limits.
        limits_ms: the time limits; ranking without a limit is measured as well.
        candidates: documents of each query that is ranked under time limits.
    """

    model: str = "default"
    provider: Provider = "cpu"
    precisions: Sequence[Precision] = ("fp32", "int8")
    checkpoint: Path | None = None
    texts: Path | None = None
    lengths: Sequence[DocumentLength] = ("short", "middle", "long")
    top_ks: Sequence[int] = (10, 100)
    effort: Effort = field(default_factory=Effort)
    peers_folder: Path | None = None
    peers: Sequence[str] | None = None
    rounds: int = 5
    curve_top_ks: Sequence[int] = ()
    scenarios: bool = True
    roofline_rounds: int = 0
    long_documents: Sequence[Path] = ()
    quality_queries: int | None = None
    deadlines: Sequence[Path] = ()
    limits_ms: Sequence[int] = LIMITS_MS
    candidates: int = CANDIDATES


def run_benchmark(plan: BenchmarkPlan, *, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measure what the plan asks for.

    Args:
        plan: what to measure.
        progress: called with each step as it begins.

    Returns:
        The conditions, and the figures of each part of the plan.

    Raises:
        ProviderError: the provider does not work here; nothing was measured.
        CrossrankError: the model, the checkpoint or a folder cannot be used, or a package is missing.
    """
    peers, absent = check_plan(plan)
    result: dict[str, Any] = {"schema": SCHEMA_VERSION, **describe_run(), "provider": plan.provider}
    if plan.provider == "cuda":
        result["gpu"] = describe_gpu()
    artifacts, missing = find_artifacts(plan.model, plan.precisions, plan.checkpoint, plan.provider)
    passages = beir_passages(plan.texts) if plan.texts else standard_library_passages()
    first = Artifact.open(next(iter(artifacts.values())))
    maker = WorkloadMaker(passages, first.path(first.manifest.tokenizer), max_length=first.manifest.max_length)
    result["artifacts"] = {name: describe_artifact(Artifact.open(folder)) for name, folder in artifacts.items()}
    result["missing_precisions"] = missing
    result["text"] = {"source": passages.name, "sha256": passages.digest, "query": passages.query}
    scenarios = _scenarios_of_checked_texts(plan, maker)
    read_in_windows = artifacts.get("int8") or first.folder
    if plan.long_documents:  # before all other parts: only this tells whether the texts have so many windows
        progress("times by windows")
        text = " ".join(read_collection(plan.long_documents[0]).documents.values())
        result["window_times"] = measure_window_times(read_in_windows, text, passages.query, provider=plan.provider)
    if plan.lengths and plan.top_ks:
        result["latency"] = measure_latency(
            artifacts,
            maker,
            lengths=plan.lengths,
            top_ks=plan.top_ks,
            effort=plan.effort,
            provider=plan.provider,
            progress=progress,
        )
    if plan.peers_folder is not None:
        result["comparison"] = _compare(plan, peers, artifacts, scenarios, progress) | {"absent": absent}
    if plan.roofline_rounds:
        result["roofline"] = measure_roofline(
            artifacts, maker, rounds=plan.roofline_rounds, provider=plan.provider, progress=progress
        )
    if plan.long_documents:
        result["long_documents"] = [
            measure_long_documents(
                read_in_windows, folder, queries=plan.quality_queries, provider=plan.provider, progress=progress
            )
            for folder in plan.long_documents
        ]
    precision = min(artifacts, key=("int8", "fp16", "fp32").index)
    result["deadlines"] = [
        measure_deadlines(
            artifacts[precision],
            folder,
            precision=precision,
            queries=plan.quality_queries,
            limits_ms=(*plan.limits_ms, None),
            candidates=plan.candidates,
            rounds=plan.rounds,
            provider=plan.provider,
            progress=progress,
        )
        for folder in plan.deadlines
    ]
    if plan.provider == "cuda":
        result["gpu_after"] = describe_gpu()  # clocks and temperature once it is warm
    return result


def check_plan(plan: BenchmarkPlan) -> tuple[list[Contender], dict[str, str]]:
    """Refuse a plan that cannot be carried out, before anything is measured or fetched.

    Args:
        plan: what to measure.

    Returns:
        The peers that take part, and for each other one the reason why it does not.

    Raises:
        InvalidInputError: a precision does not run on the provider, a peer is unknown, the checkpoint is missing or not
            a checkpoint, or a BEIR folder lacks what is measured on it.
        MissingDependencyError: ir-measures is not installed and ranking quality is to be measured, or onnx is not
            installed and the roofline is.
        ProviderError: the provider does not work here; the message has the reason and the fix.
    """
    check_measurable(plan.provider, plan.precisions)
    if plan.checkpoint is not None:
        check_checkpoint(plan.checkpoint)
    if plan.roofline_rounds:
        require_onnx()
    peers = _peers(plan)
    _check_folders(plan)
    return peers


def missing_environments(plan: BenchmarkPlan) -> list[str]:
    """Names of the environments that the plan's peers need and that are not installed.

    Args:
        plan: what to measure.
    """
    if plan.peers_folder is None:
        return []
    needed = {peer.environment for peer in _peers(plan)[0] if peer.environment is not None}
    return sorted(name for name in needed if interpreter(plan.peers_folder, name) is None)


def check_measurable(provider: Provider, precisions: Sequence[Precision]) -> None:
    """Refuse a provider that does not work here, and precisions that do not run on it.

    Args:
        provider: execution provider.
        precisions: which to measure.

    Raises:
        InvalidInputError: a precision does not run on the provider.
        ProviderError: the provider does not work here; the message has the reason and the fix.
    """
    if provider == "cuda" and "int8" in precisions:
        raise InvalidInputError(
            "precision int8 on provider cuda: onnxruntime has no CUDA kernels for int8 graphs; fp16 or fp32 expected"
        )
    choose_provider(provider)


def comparison_scenarios(plan: BenchmarkPlan, maker: WorkloadMaker) -> list[Scenario]:
    """The workloads of the comparison: the three scenarios, then the points of the curve.

    Args:
        plan: which of them to make.
        maker: makes the workloads.
    """
    scenarios = []
    if plan.scenarios:
        scenarios = [
            Scenario(maker.mixed(100), plan.rounds),
            Scenario(maker.of_length("short", 1000), plan.rounds),
            Scenario(maker.of_pair_length(ONE_PAIR_TOKENS, 1), plan.rounds, _ONE_PAIR_CALLS),
        ]
    return scenarios + [Scenario(maker.of_length("middle", top_k), plan.rounds) for top_k in plan.curve_top_ks]


def _peers(plan: BenchmarkPlan) -> tuple[list[Contender], dict[str, str]]:
    """The peers that take part, and for each other one the reason why it does not."""
    if plan.peers_folder is None:
        return [], {}
    peers, absent = chosen_peers(plan.peers, plan.provider)
    if peers and plan.checkpoint is None:
        raise InvalidInputError(
            "no checkpoint given: the peers load the model's own checkpoint; name its folder with --checkpoint"
        )
    return peers, absent


def _scenarios_of_checked_texts(plan: BenchmarkPlan, maker: WorkloadMaker) -> list[Scenario]:
    """The scenarios of the comparison, if there is one; refuses texts that are too few or short for any part."""
    if "mixed" in plan.lengths and plan.top_ks:
        maker.mixed(max(plan.top_ks))
    if plan.roofline_rounds:
        maker.of_pair_length(min(PAIR_TOKENS), 1)
    return comparison_scenarios(plan, maker) if plan.peers_folder is not None else []


def _check_folders(plan: BenchmarkPlan) -> None:
    """Read every BEIR folder as the measurements will, and see to what judges rankings."""
    if plan.long_documents or plan.deadlines:
        require_ir_measures()
    if plan.texts is not None:
        beir_passages(plan.texts)
    for folder in plan.long_documents:
        read_long_documents(folder)
    for folder in plan.deadlines:
        chosen_candidates(folder, read_judged_collection(folder), plan.quality_queries, plan.candidates)


def _compare(
    plan: BenchmarkPlan,
    peers: Sequence[Contender],
    artifacts: dict[Precision, Path],
    scenarios: Sequence[Scenario],
    progress: Callable[[str], None],
) -> dict[str, Any]:
    weights = None
    if peers and plan.checkpoint is not None and plan.peers_folder is not None:
        progress("preparing the peers' weights")
        weights = prepare_weights(plan.checkpoint, plan.peers_folder, plan.provider)
    return compare(
        [*own_contenders(artifacts, plan.provider), *peers],
        scenarios,
        peers_folder=plan.peers_folder,
        weights=weights,
        progress=progress,
    )
