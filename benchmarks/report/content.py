"""What a report says: the artifact, its reference pairs scored here, and the times of calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from crossrank.benchmarks.harness.environment import RunDescription, describe_run
from crossrank.benchmarks.harness.result import Conditions, Subject, prepare
from crossrank.benchmarks.harness.sampling import Effort
from crossrank.benchmarks.harness.workloads import DOCUMENT_TOKENS
from crossrank.benchmarks.latency.latency_grid import measure_latency
from crossrank.engine.runtime.reference_pairs import check_reference_pairs
from crossrank.models.artifact import Artifact
from crossrank.models.manifest import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from crossrank.benchmarks.harness.workloads import DocumentLength
    from crossrank.benchmarks.latency.latency_grid import LatencyCell
    from crossrank.engine.runtime.reference_pairs import GraphCheck
    from crossrank.models.manifest import Manifest, Provider

TOP_KS = (1, 10, 100)


@dataclass(frozen=True)
class ModelReport:
    """Everything a report shows.

    Attributes:
        folder: of the artifact, whose digests were checked.
        manifest: of the artifact.
        checks: the reference pairs scored on this machine, for each graph.
        run: machine, versions and date; with the texts where calls were timed.
        provider: that calls were timed on.
        latency: of each combination; empty where nothing was timed.
        not_timed: why nothing was timed; empty where something was.
        command: the command that makes it again.
    """

    folder: Path
    manifest: Manifest
    checks: Sequence[GraphCheck]
    run: RunDescription
    provider: Provider
    latency: tuple[LatencyCell, ...]
    not_timed: str
    command: str

    @property
    def passed(self) -> bool:
        """Whether this machine's scores of the reference pairs agree with the recorded ones."""
        return all(check.passed for check in self.checks)


def make_report(
    folder: Path,
    *,
    command: str,
    provider: Provider = "cpu",
    seconds: float | None = 2.0,
    top_ks: Sequence[int] = TOP_KS,
    progress: Callable[[str], None] = lambda _: None,
) -> ModelReport:
    """Check an artifact and time calls of it.

    Args:
        folder: of the artifact.
        command: to be shown in the report.
        provider: what calls are timed on. The reference pairs are always scored on the CPU.
        seconds: for the calls of each combination of precision, length and number of documents; None times nothing.
        top_ks: numbers of documents.
        progress: called with each step as it begins.

    Raises:
        ArtifactError: the artifact is damaged.
        InferenceError: a graph does not run here.
        MissingDependencyError: onnxruntime is not installed.
        ProviderError: the provider does not work here.
    """
    progress("checking files and reference pairs")
    manifest = Artifact.open(folder).manifest
    checks = check_reference_pairs(folder)
    run = describe_run()
    cells: tuple[LatencyCell, ...] = ()
    not_timed = "not asked for"
    precisions = [precision for precision in get_args(Precision) if _runs(manifest, precision, provider)]
    if seconds is not None and not precisions:
        not_timed = f"the artifact has no graph for {provider}"
    elif seconds is not None:
        run, cells = _timed(folder, manifest, provider, precisions, seconds, top_ks, progress)
        not_timed = ""
    return ModelReport(folder, manifest, checks, run, provider, cells, not_timed, command)


def _runs(manifest: Manifest, precision: Precision, provider: Provider) -> bool:
    return any(graph.precision == precision and provider in graph.providers for graph in manifest.graphs)


def _timed(
    folder: Path,
    manifest: Manifest,
    provider: Provider,
    precisions: Sequence[Precision],
    seconds: float,
    top_ks: Sequence[int],
    progress: Callable[[str], None],
) -> tuple[Conditions, tuple[LatencyCell, ...]]:
    subject = Subject(model=str(folder), provider=provider, precisions=precisions)
    subject.check()
    setup = prepare(subject)
    lengths: list[DocumentLength] = [name for name, tokens in DOCUMENT_TOKENS.items() if tokens < manifest.max_length]
    cells: tuple[LatencyCell, ...] = ()
    grid = measure_latency(setup, progress, lengths=lengths or ["short"], top_ks=top_ks, effort=Effort(seconds=seconds))
    for figures in grid:
        cells = figures.latency
    return setup.conditions, cells
