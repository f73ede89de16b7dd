"""Documents and rankings as people look at them: on one line, and as the table of a notebook."""

from __future__ import annotations

import html
import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from crossrank.engine.text.documents import TEXT_FIELD, encodable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crossrank.engine.text.documents import Document

SHOWN_ROWS = 20
"""Rows of a notebook's table; how many more there are is said below it."""
_SHOWN_CHARACTERS = 240
_LONGEST_REPR = 200
_LABELS = ("title", "id", "_id")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxdict = 3


def short_repr(value: object) -> str:
    """A value's `repr` on one line of a bounded length, without writing out all of a long text first."""
    shown = " ".join(_short.repr(value).split())
    return shown if len(shown) <= _LONGEST_REPR else shown[:_LONGEST_REPR] + "..."


def shown_score(score: float | None) -> str:
    """A score with four digits after the point; '-' for a document without one."""
    return "-" if score is None else f"{score:.4f}"


def shown_text(document: Document, part: tuple[int, int] | None = None) -> str:
    """A document's text, after its title or id where it has one.

    Args:
        document: a string, or a mapping with a text field.
        part: first character of the text to be shown, and the one after the last; None shows all.
    """
    text, label = str(document), None
    if isinstance(document, Mapping):
        text = str(document[TEXT_FIELD])
        label = next((document[name] for name in _LABELS if document.get(name)), None)
    if part is not None:
        text = text[slice(*part)]
    return f"{label}: {text}" if label else text


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]], note: str) -> str:
    """A table for a notebook: escaped, long texts cut, no colours of its own, so that it is legible on any background.

    Args:
        columns: their headings; the last column holds texts and is aligned to the left.
        rows: the cells.
        note: below the table.
    """
    last = len(columns) - 1

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{tag} style="text-align:{"left" if place == last else "right"};vertical-align:top">{_cell(cell)}</{tag}>'
            for place, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return (
        f'<table style="color:inherit"><thead><tr>{line("th", columns)}</tr></thead><tbody>{body}</tbody></table>'
        f"<p><small>{html.escape(note)}</small></p>"
    )


def _cell(text: str) -> str:
    # Cut before spaces are joined, as a document may be of any size.
    shown = " ".join(text[: 2 * _SHOWN_CHARACTERS].split())
    cut = len(text) > 2 * _SHOWN_CHARACTERS or len(shown) > _SHOWN_CHARACTERS
    return html.escape(encodable(shown[:_SHOWN_CHARACTERS]) + ("…" if cut else ""))
