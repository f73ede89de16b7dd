"""The way to an artifact, the same for a checkpoint and for an ONNX file: read, make graphs, verify, write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from crossrank.errors import ExportError
from crossrank.export.assembly import Assembly, checked_name, open_writer
from crossrank.export.graph.files import surroundings_hint
from crossrank.export.report import ExportReport, Recorder
from crossrank.export.verify.pairs import load_queries
from crossrank.export.verify.verification import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crossrank.export.checkpoint.checkpoint import Checkpoint
    from crossrank.export.report import ExportEvent
    from crossrank.models.manifest import Precision


@dataclass(frozen=True)
class ArtifactOptions:
    """What the caller may say of any artifact; `export` and `import_onnx` document it."""

    out: str | Path
    force: bool
    verification_pairs: Path | None
    min_kendall_tau: float
    name: str | None
    external_data_from: int
    progress: Callable[[ExportEvent], None] | None


class ModelReader(Protocol):
    """A model that becomes an artifact.

    Attributes:
        doing: what is being done with it, for errors, such as "exporting minilm".
        name: the artifact's name where the caller states none; once the model is read.
        wanted: precisions the artifact is to have; once the model is read.
        versions: libraries that make the artifact; once the model is read.
        notes: what a user should know of this way to an artifact.
    """

    doing: str
    name: str
    wanted: tuple[Precision, ...]
    versions: dict[str, str]
    notes: tuple[str, ...] = ()

    def require(self) -> None:
        """Make sure that what the work needs is installed, before anything is read.

        Raises:
            MissingDependencyError: it is not.
        """

    def read(self, recorder: Recorder) -> Checkpoint:
        """Read what the manifest will say of the model."""

    def make(self, assembly: Assembly) -> None:
        """Place the tokenizer and the graphs, each verified; the float32 graph also where only others are wanted."""


def make_artifact(reader: ModelReader, options: ArtifactOptions) -> ExportReport:
    """Make an artifact of a model; see `export` and `import_onnx` for what is raised.

    Args:
        reader: reads the model and makes its graphs.
        options: what the caller says of the artifact.
    """
    bounds, name = Bounds(min_kendall_tau=options.min_kendall_tau), checked_name(options.name)
    queries = load_queries(options.verification_pairs)
    writer = open_writer(options.out, force=options.force)
    reader.require()
    recorder = Recorder(options.progress)
    try:
        described = reader.read(recorder)
        with writer:
            assembly = Assembly(
                folder=writer.folder,
                checkpoint=described,
                name=name or reader.name,
                versions=reader.versions,
                queries=queries,
                bounds=bounds,
                recorder=recorder,
                external_data_from=options.external_data_from,
            )
            reader.make(assembly)
            assembly.check_bounds()
            assembly.keep_graphs(reader.wanted)
            manifest, graphs = assembly.finish()
            with recorder.step("commit the artifact") as step:
                artifact = writer.commit(manifest)
                step.size = sum(record.size for record in manifest.files)
    except OSError as error:
        hint = surroundings_hint(error, writer.target.parent)
        message = f"{reader.doing} to {options.out} failed, nothing was written: {error}{hint}"
        raise ExportError(message) from error
    notes = (*reader.notes, *described.notes, *assembly.notes)
    return ExportReport(artifact, manifest.name, graphs, recorder.steps, assembly.verified, notes, described.source)
