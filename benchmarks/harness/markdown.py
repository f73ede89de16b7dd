"""Tables and plots as markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.harness.report import report_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crossrank.benchmarks.harness.report import ReportTable


def to_markdown(result: Mapping[str, Any], *, plots: Sequence[str] = ()) -> str:
    """Every table of a result, then the plots.

    Args:
        result: what `run_benchmark` returned.
        plots: paths of the images, as the links have them.
    """
    return tables_to_markdown(report_tables(result), plots=plots)


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
