"""A small SVG writer: shapes and text in a few styles, on a background of its own, in light and in dark.

The background belongs to the picture, so it can be read on any page, also where a page is dark and the reader's system
is light. What is told apart is told apart by pattern, outline and label, not by colour alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from pathlib import Path

_STYLE = """
:root { --back: #ffffff; --ink: #1b1f24; --soft: #57606a; --line: #c4ccd4; --own: #0b5cad; --other: #d5dce3; }
@media (prefers-color-scheme: dark) {
:root { --back: #12161c; --ink: #eef2f6; --soft: #a7b1bc; --line: #46505b; --own: #6fb1f5; --other: #39424c; }
}
.back { fill: var(--back); stroke: var(--line); }
text { font: 15px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
.title { font-size: 18px; font-weight: 600; }
.small { font-size: 12.5px; }
.soft { fill: var(--soft); }
.strong { font-weight: 600; }
.inside { fill: var(--back); font-weight: 600; }
.own { fill: var(--own); }
.other { fill: var(--other); stroke: var(--soft); }
.striped { fill: url(#stripes); stroke: var(--soft); }
.empty { fill: none; stroke: var(--soft); stroke-dasharray: 4 3; }
.frame { fill: none; stroke: var(--soft); }
.line { stroke: var(--line); }
.tick { stroke: var(--ink); }
.arrow { stroke: var(--soft); fill: none; marker-end: url(#head); }
.stripe { stroke: var(--soft); stroke-width: 1.2; }
.head { fill: var(--soft); }
"""
_PATTERNS = (
    '<defs><pattern id="stripes" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="7" height="7" class="back" style="stroke:none"/>'
    '<line x1="0" y1="0" x2="0" y2="7" class="stripe"/></pattern>'
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 L8 4 L0 8 z" class="head"/></marker></defs>'
)


class Picture:
    """A picture of a fixed size that shapes are added to."""

    def __init__(self, width: int, height: int, description: str) -> None:
        self.width, self.height, self.description = width, height, description
        self._parts: list[str] = []

    def text(self, x: float, y: float, words: str, style: str = "", *, anchor: str = "start") -> None:
        """Add a line of text.

        Args:
            x: where it is anchored.
            y: its base line.
            words: the text.
            style: classes of the style sheet.
            anchor: which part of it x is: start, middle or end.
        """
        self._parts.append(f'<text x="{x:g}" y="{y:g}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, style: str) -> None:
        """Add a rectangle; `style` is own, other, striped, empty or frame."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" class="{style}"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str = "line") -> None:
        """Add a line, or an arrow with the style of that name."""
        self._parts.append(f'<path d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}" class="{style}"/>')

    def svg(self) -> str:
        """The picture as SVG; its description is what a screen reader says."""
        size, measures = f"{self.width} {self.height}", f'width="{self.width}" height="{self.height}"'
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" {measures} role="img">',
                f"<title>{escape(self.description)}</title>",
                f"<style>{_STYLE}</style>",
                _PATTERNS,
                f'<rect x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}" rx="8" class="back"/>',
                *self._parts,
                "</svg>\n",
            )
        )

    def write(self, path: Path) -> None:
        """Write the SVG to a file."""
        path.write_text(self.svg(), encoding="utf-8")
