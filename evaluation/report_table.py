"""A table of figures as every report holds it, and its markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LEFT = frozenset(
    {
        "contender",
        "model",
        "precision",
        "documents",
        "collection",
        "what",
        "reason",
        "between",
        "stages before the full model",
    }
)


@dataclass(frozen=True)
class ReportTable:
    """A table of text cells with a title, and a note under it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def is_left(self, column: str) -> bool:
        """Whether a column is aligned to the left: it holds words, not figures."""
        return column in _LEFT


def milliseconds(seconds: float) -> str:
    """Seconds as text in milliseconds, with about three significant digits."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def tables_to_markdown(tables: Iterable[ReportTable], *, plots: Sequence[str] = ()) -> str:
    """Tables, then plots.

    Args:
        tables: in their order.
        plots: paths of the images, as the links have them.
    """
    parts = []
    for table in tables:
        lines = [f"## {table.title}", "", _row(table.columns)]
        lines.append(_row(["---" if table.is_left(column) or not column else "---:" for column in table.columns]))
        lines.extend(_row(cells) for cells in table.rows)
        if table.note:
            lines.extend(["", table.note])
        parts.append("\n".join(lines))
    parts.extend(f"![{path.rpartition('/')[2].removesuffix('.png')}]({path})" for path in plots)
    return "\n\n".join(parts) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
