"""A display of the steps of an export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from crossrank.cli.common import err

if TYPE_CHECKING:
    from rich.progress import TaskID

    from crossrank.export.report import ExportEvent


class ProgressDisplay:
    """The running step with its time and size, on standard error and only on a terminal.

    It starts with the first event, so that huggingface-hub's progress bars before that have the terminal to themselves.
    """

    def __init__(self) -> None:
        console = err()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[size]}", justify="right"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: ExportEvent) -> None:
        """Take in one event of the export."""
        if event.state == "started" or self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(event.step, total=None, size="")
        size = f"{event.size / 1e6:.1f} MB" if event.size else ""
        if event.state == "advanced":
            self._progress.update(self._task, completed=event.done, total=event.total, size=size)
        elif event.state == "finished":
            self._progress.update(self._task, completed=1, total=1, size=size)
