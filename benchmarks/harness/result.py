"""What every benchmark begins with, and what each gives: the conditions, with figures that grow part by part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from crossrank.benchmarks.harness.environment import (
    ArtifactDescription,
    RunDescription,
    describe_artifact,
    describe_run,
)
from crossrank.benchmarks.harness.gpu import GpuDescription, describe_gpu
from crossrank.benchmarks.harness.json_text import json_of
from crossrank.benchmarks.harness.models_measured import find_artifacts
from crossrank.benchmarks.harness.passages import beir_passages, standard_library_passages
from crossrank.benchmarks.harness.workloads import WorkloadMaker
from crossrank.engine.runtime.providers import choose_provider
from crossrank.errors import InvalidInputError
from crossrank.evaluation.report_table import ReportTable
from crossrank.models.artifact import Artifact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from crossrank.models.manifest import Precision, Provider

SCHEMA_VERSION = 2


class Figures(Protocol):
    """What a benchmark has measured so far: a frozen dataclass."""

    def tables(self) -> list[ReportTable]:
        """The figures as tables."""
        ...

    def write_plots(self, folder: Path) -> list[Path]:
        """Write a PNG for each kind of figure that has a plot into a folder that exists, and return the files."""
        ...


Measured = TypeVar("Measured", bound=Figures)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured.

    Attributes:
        model: as `crossrank.Reranker` takes it.
        provider: execution provider that everything runs on, peers included.
        precisions: which to measure.
        checkpoint: folder with the model's weights, for peers and for precisions that the artifact lacks.
        text: BEIR folder to take documents from; None takes the standard library's documentation.
    """

    model: str = "default"
    provider: Provider = "cpu"
    precisions: Sequence[Precision] = ("fp32", "int8")
    checkpoint: Path | None = None
    text: Path | None = None

    def check(self) -> None:
        """Refuse what cannot be measured, before anything is measured or fetched.

        Raises:
            InvalidInputError: a precision does not run on the provider, the checkpoint is no checkpoint, or the folder
                of texts is no BEIR collection.
            ProviderError: the provider does not work here; the message has the reason and the fix.
        """
        if self.provider == "cuda" and "int8" in self.precisions:
            raise InvalidInputError(
                "precision int8 on provider cuda: onnxruntime has no CUDA kernels for int8 graphs; fp16 or fp32 "
                "expected"
            )
        choose_provider(self.provider)
        if self.checkpoint is not None and not (self.checkpoint / "config.json").is_file():
            raise InvalidInputError(f"checkpoint {self.checkpoint}: a folder with config.json and weights expected")
        if self.text is not None:
            beir_passages(self.text)


@dataclass(frozen=True)
class TextDescription:
    """Where the texts come from, their digest, and the query."""

    source: str
    sha256: str
    query: str


@dataclass(frozen=True)
class Conditions(RunDescription):
    """What figures were measured under.

    Attributes:
        provider: execution provider.
        gpu: before measuring; None on the CPU.
        artifacts: of each precision that is measured.
        missing_precisions: why each other one is not.
        text: that documents were made of.
        gpu_after: once all is measured, with its clocks and temperature when warm.
    """

    provider: Provider
    gpu: GpuDescription | None
    artifacts: dict[Precision, ArtifactDescription]
    missing_precisions: dict[Precision, str]
    text: TextDescription
    gpu_after: GpuDescription | None = None

    def rows(self) -> list[tuple[str, str]]:
        """The conditions as rows of a table."""
        rows = super().rows() + ([] if self.gpu is None else self.gpu.rows(self.gpu_after))
        rows.append(("text", f"{self.text.source} (sha256 {self.text.sha256[:12]})"))
        for precision, artifact in self.artifacts.items():
            graph = artifact.graphs[precision]
            passes = ", ".join(graph.passes) or "none recorded"
            rows.append((precision, f"{artifact.name}, graph sha256 {graph.sha256[:12]}, passes: {passes}"))
        rows.extend((precision, f"not measured: {reason}") for precision, reason in self.missing_precisions.items())
        return rows


@dataclass(frozen=True)
class Setup:
    """What is measured, found and opened.

    Attributes:
        subject: what was asked for.
        conditions: to report.
        artifacts: the folder of each precision.
        maker: makes documents.
    """

    subject: Subject
    conditions: Conditions
    artifacts: dict[Precision, Path]
    maker: WorkloadMaker

    @property
    def first(self) -> Precision:
        """The first precision that is available; the only one where one was asked for."""
        return next(iter(self.artifacts))


def prepare(subject: Subject) -> Setup:
    """Find or export the artifacts, and describe the conditions.

    Args:
        subject: what to measure, checked.

    Raises:
        CrossrankError: as `find_artifacts` says.
    """
    run = describe_run()
    gpu = describe_gpu() if subject.provider == "cuda" else None
    artifacts, missing = find_artifacts(subject.model, subject.precisions, subject.checkpoint, subject.provider)
    passages = beir_passages(subject.text) if subject.text else standard_library_passages()
    opened = {precision: Artifact.open(folder) for precision, folder in artifacts.items()}
    first = next(iter(opened.values()))
    conditions = Conditions(
        **vars(run),
        provider=subject.provider,
        gpu=gpu,
        artifacts={precision: describe_artifact(artifact) for precision, artifact in opened.items()},
        missing_precisions=missing,
        text=TextDescription(passages.name, passages.digest, passages.query),
    )
    maker = WorkloadMaker(passages, first.path(first.manifest.tokenizer), max_length=first.manifest.max_length)
    return Setup(subject, conditions, artifacts, maker)


@dataclass(frozen=True)
class Result(Generic[Measured]):
    """Figures of the parts that are finished, with the conditions they were measured under."""

    conditions: RunDescription
    figures: Measured

    def to_json(self) -> str:
        """The document of a result file."""
        parts = vars(self.conditions) | vars(self.figures)
        present = {name: value for name, value in parts.items() if value is not None}
        return json_of({"schema": SCHEMA_VERSION, **present}, indent=2) + "\n"

    def tables(self) -> list[ReportTable]:
        """The conditions, then the figures."""
        return [ReportTable("Conditions", ("what", ""), tuple(self.conditions.rows())), *self.figures.tables()]


def results(conditions: RunDescription, figures: Iterable[Measured]) -> Iterator[Result[Measured]]:
    """Figures as they grow, with their conditions; on CUDA the GPU is described again at the end.

    Args:
        conditions: that they are measured under.
        figures: what is finished after each part.
    """
    last = None
    for last in figures:
        yield Result(conditions, last)
    if last is not None and isinstance(conditions, Conditions) and conditions.gpu is not None:
        yield Result(replace(conditions, gpu_after=describe_gpu(conditions.gpu.device)), last)
