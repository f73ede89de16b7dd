"""Runs the benchmark under load (`crossrank bench-load`) and returns one document for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.harness.environment import describe_artifact, describe_run
from crossrank.benchmarks.harness.gpu import describe_gpu
from crossrank.benchmarks.harness.models_measured import find_artifacts
from crossrank.benchmarks.harness.passages import beir_passages, standard_library_passages
from crossrank.benchmarks.harness.workloads import WorkloadMaker
from crossrank.benchmarks.load.load_contenders import chosen_load_peers, own_contender
from crossrank.benchmarks.load.measure import measure_load
from crossrank.benchmarks.peers.weights import check_checkpoint, prepare_weights
from crossrank.benchmarks.run import check_measurable
from crossrank.errors import InvalidInputError
from crossrank.models.artifact import Artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.workloads import DocumentLength
    from crossrank.benchmarks.load.measure import LoadPlan
    from crossrank.models.manifest import Precision, Provider

_DOCUMENTS = 400


def run_load_benchmark(  # noqa: PLR0913  one parameter an option
    plan: LoadPlan,
    *,
    model: str,
    precision: Precision,
    provider: Provider = "cpu",
    checkpoint: Path | None,
    peers_folder: Path | None,
    peers: Sequence[str] | None,
    documents: DocumentLength,
    text: Path | None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure crossrank, and the peers if `peers_folder` is given.

    Args:
        plan: how to measure.
        model: as `crossrank.Reranker` takes it.
        precision: of crossrank's graph.
        provider: execution provider of crossrank and of the peers.
        checkpoint: the model's weights, for the peers.
        peers_folder: where the peers' environments are; None leaves peers out.
        peers: which of them; None takes all.
        documents: length of the documents.
        text: BEIR folder to take the documents from; None takes the standard library's documentation.
        progress: called with each step as it begins.

    Returns:
        The conditions, and under `load` what `measure_load` returns.

    Raises:
        ProviderError: the provider does not work here; nothing was measured.
        CrossrankError: the model, the checkpoint or a folder cannot be used, or a package is missing.
    """
    check_measurable(provider, [precision])
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    chosen = chosen_load_peers(peers, provider) if peers_folder is not None else []
    if chosen and checkpoint is None:
        raise InvalidInputError(
            "no checkpoint given: the peers load the model's own checkpoint; name its folder with --checkpoint"
        )
    result: dict[str, Any] = {"schema": 1, **describe_run(), "provider": provider}
    if provider == "cuda":
        result["gpu"] = describe_gpu()
    artifacts, result["missing_precisions"] = find_artifacts(model, [precision], checkpoint, provider)
    artifact = Artifact.open(artifacts[precision])
    passages = beir_passages(text) if text else standard_library_passages()
    maker = WorkloadMaker(passages, artifact.path(artifact.manifest.tokenizer), max_length=artifact.manifest.max_length)
    texts = maker.of_length(documents, _DOCUMENTS)
    result["artifacts"] = {precision: describe_artifact(artifact)}
    result["text"] = {"source": passages.name, "sha256": passages.digest, "query": passages.query}
    result["documents"] = texts.title
    weights = None
    if chosen and checkpoint is not None and peers_folder is not None:
        progress("preparing the peers' weights")
        weights = prepare_weights(checkpoint, peers_folder, provider)
    contenders = [own_contender(artifacts[precision], precision, provider), *chosen]
    result["load"] = measure_load(
        contenders, texts, plan, peers_folder=peers_folder, weights=weights, progress=progress
    )
    return result
