"""What the measuring commands share: progress, tables, files, lists in options, the embedded models' checkpoints."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

from crossrank.cli.common import err, out, plain_table
from crossrank.errors import InvalidInputError
from crossrank.evaluation.output_file import write_file
from crossrank.models.manifest import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from crossrank.benchmarks.harness.result import Figures, Result, Setup, Subject
    from crossrank.evaluation.report_table import ReportTable
    from crossrank.models.manifest import Provider

Done = TypeVar("Done")
Number = TypeVar("Number", int, float)
Choice = TypeVar("Choice", bound=str)
Measured = TypeVar("Measured", bound="Figures")


def with_progress(work: Callable[[Callable[[str], None]], Done]) -> Done:
    """Do work and show its steps on standard error: in one changing line on a terminal, else a line for each step."""
    console = err()
    if not console.is_terminal:
        return work(lambda step: console.print(step, markup=False))
    try:  # No spinner: its thread would run while times are measured.
        return work(lambda step: console.print(f"\r\x1b[2K{step}", end="", markup=False))
    finally:
        console.print("\r\x1b[2K", end="")


@dataclass(frozen=True)
class Outputs:
    """Where a benchmark writes, besides its tables on standard output.

    Attributes:
        json_file: gets all figures, again after each part that is finished.
        markdown: gets the tables and plots.
        plots: folder of the plots.

    Raises:
        InvalidInputError: one of them cannot be written.
        MissingDependencyError: there are plots to draw and matplotlib is not installed.
    """

    json_file: Path | None
    markdown: Path | None
    plots: Path | None

    def __post_init__(self) -> None:
        """Refuse what cannot be written, before anything is measured."""
        from crossrank.evaluation.dependencies import require_matplotlib

        check_files({"--json": self.json_file, "--markdown": self.markdown})
        if self.plots is not None:
            check_folder("--plots", self.plots)
            require_matplotlib()

    def write(self, result: Result[Measured]) -> None:
        """Print the tables, then write plots and markdown."""
        from crossrank.evaluation.report_table import tables_to_markdown

        tables = result.tables()
        print_tables(tables)  # first, so that no figures are lost if a file cannot be written
        images: list[Path] = []
        if self.plots is not None:
            self.plots.mkdir(parents=True, exist_ok=True)
            images = result.figures.write_plots(self.plots)
            for image in images:
                err().print(f"plot: {image}")
        if self.markdown is not None:
            links = [Path(os.path.relpath(image, self.markdown.parent)).as_posix() for image in images]
            write_file(self.markdown, tables_to_markdown(tables, plots=links))


def run_benchmark(outputs: Outputs, measure: Callable[[Callable[[str], None]], Iterable[Result[Measured]]]) -> None:
    """Measure part by part. What was finished is kept and shown, also where a later part fails or is interrupted.

    Args:
        outputs: where to.
        measure: called with what shows progress; gives the result so far after each part.
    """
    result: Result[Measured] | None = None

    def work(progress: Callable[[str], None]) -> None:
        nonlocal result
        for result in measure(progress):
            if outputs.json_file is not None:
                write_file(outputs.json_file, result.to_json())

    try:
        with_progress(work)
    finally:
        if result is not None:
            outputs.write(result)


def measure_model(
    outputs: Outputs, subject: Subject, measure: Callable[[Setup, Callable[[str], None]], Iterable[Measured]]
) -> None:
    """Measure a model part by part.

    Args:
        outputs: where to.
        subject: the model.
        measure: called with what was opened and what shows progress; gives the figures so far after each part.
    """
    from crossrank.benchmarks.harness.result import prepare, results

    def parts(progress: Callable[[str], None]) -> Iterator[Result[Measured]]:
        setup = prepare(subject)
        yield from results(setup.conditions, measure(setup, progress))

    run_benchmark(outputs, parts)


def subject_of(
    model: str,
    provider: Provider,
    precisions: Precision | str | None,
    checkpoint: Path | None,
    *,
    text: Path | None = None,
    several: bool = False,
) -> Subject:
    """What options say is to be measured, checked.

    Args:
        model: the option of this name, likewise the others.
        provider: where to.
        precisions: one, or several between commas; None takes the defaults.
        checkpoint: None finds the default model's.
        text: where documents come from.
        several: whether several precisions are measured where none are named.

    Raises:
        CrossrankError: as `Subject.check` says, or a precision is not known.
    """
    from crossrank.benchmarks.harness.engine_options import DEFAULT_PRECISIONS, FASTEST_PRECISION
    from crossrank.benchmarks.harness.result import Subject

    chosen: Sequence[Precision] = DEFAULT_PRECISIONS[provider] if several else [FASTEST_PRECISION[provider]]
    if precisions is not None:
        chosen = some_of("precision", precisions, get_args(Precision))
    subject = Subject(
        model=model,
        provider=provider,
        precisions=chosen,
        checkpoint=checkpoint or embedded_checkpoint(model),
        text=text,
    )
    subject.check()
    return subject


def check_files(files: Mapping[str, Path | None]) -> None:
    """Refuse files that cannot be written, before anything is measured.

    Args:
        files: the path given for each option; None where the option was not given.

    Raises:
        InvalidInputError: a path is a folder or a read-only file, or its folder can be neither written to nor created.
    """
    for option, path in files.items():
        if path is None:
            continue
        if path.is_dir():
            raise InvalidInputError(f"{option} {path} is a folder; a file to write expected")
        if path.exists():
            if not os.access(path, os.W_OK):
                raise InvalidInputError(f"{option} {path} is read-only; a writable file expected")
        else:
            check_folder(option, path.parent)


def check_folder(option: str, folder: Path) -> None:
    """Refuse a folder that can be neither written to nor created, before anything is measured.

    Args:
        option: the option that names it.
        folder: the folder; it need not exist.

    Raises:
        InvalidInputError: the folder, or the nearest parent that exists, is not a folder or may not be written to.
    """
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise InvalidInputError(f"{option}: {existing} is no folder; a folder to write to expected")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InvalidInputError(f"{option}: {existing} may not be written to; a writable folder expected")


def print_tables(tables: Iterable[ReportTable]) -> None:
    """Print tables with their notes."""
    console = out()
    for table in tables:
        words = {column for column in table.columns if not column or table.is_left(column)}
        rendered = plain_table(table.columns, right={*table.columns} - words, title=table.title)
        for cells in table.rows:
            rendered.add_row(*cells)
        console.print(rendered)
        console.print(table.note, "\n" if table.note else "", style="dim", markup=False)


def embedded_checkpoint(model: str) -> Path | None:
    """The checkpoint that an embedded model was exported from, if the working directory is in a source checkout.

    Its weights must have the digests that the artifact records: another version's checkout may hold another model.
    """
    from crossrank.models.artifact import Artifact, sha256_of
    from crossrank.models.embedded import EMBEDDED_MODELS, embedded_artifact

    if model not in EMBEDDED_MODELS:
        return None
    recorded = Artifact.open(embedded_artifact(model)).manifest.source.weights_sha256
    for parent in (Path.cwd(), *Path.cwd().parents):
        folder = parent / "models" / model / "checkpoint"
        files = {name: folder / name for name in recorded}
        if recorded and all(path.is_file() and sha256_of(path) == recorded[name] for name, path in files.items()):
            return folder
    return None


def names(text: str) -> list[str]:
    """Split comma-separated names; empty ones are left out."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers_of(option: str, text: str, *, empty: bool = False) -> list[int]:
    """Parse comma-separated whole numbers of at least 1.

    Args:
        option: its name.
        text: its value.
        empty: whether there may be none.

    Raises:
        InvalidInputError: the text holds anything else; the message names the option.
    """
    return _parsed(option, text, int, "whole numbers of at least 1", empty=empty)


def shares_of(option: str, text: str) -> list[float]:
    """Parse comma-separated shares above 0; arguments as for `numbers_of`.

    Raises:
        InvalidInputError: the text holds anything else; the message names the option.
    """
    return _parsed(option, text, float, "numbers above 0", empty=True)


def _parsed(option: str, text: str, kind: type[Number], expected: str, *, empty: bool) -> list[Number]:
    try:
        numbers = [kind(number) for number in names(text)]
    except ValueError:
        numbers = [kind(0)]
    if not all(0 < number < float("inf") for number in numbers) or not (numbers or empty):
        raise InvalidInputError(f"--{option} {text!r}: {expected}, separated by commas, expected")
    return numbers


def some_of(option: str, text: str, allowed: Sequence[Choice]) -> list[Choice]:
    """Parse comma-separated names, one or more.

    Raises:
        InvalidInputError: a name is not among those allowed, or there is none; the message names the option.
    """
    found = [next((choice for choice in allowed if choice == name), None) for name in names(text)]
    chosen = [choice for choice in found if choice is not None]
    if not chosen or len(chosen) < len(found):
        raise InvalidInputError(
            f"--{option} {text!r}: one or more of {', '.join(allowed)}, separated by commas, expected"
        )
    return chosen
