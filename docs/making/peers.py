"""The picture of the README: crossrank against its peers, from the table in docs/benchmarks.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from svg import Picture

BENCHMARKS = Path(__file__).parents[1] / "benchmarks.md"
HEADING = "## 100 documents, pairs of 51 to 512 tokens (mean 233)"
_NAMES = {
    "crossrank, int8": "crossrank, int8",
    "crossrank, fp32": "crossrank, fp32 (exact)",
    "sentence-transformers CrossEncoder, torch": "sentence-transformers, torch",
    "sentence-transformers CrossEncoder, openvino backend": "sentence-transformers, openvino",
    "sentence-transformers CrossEncoder, onnx backend": "sentence-transformers, onnx",
    "infinity-emb, torch engine": "infinity-emb, torch",
    "FlashRank, int8 graph": "FlashRank, int8",
    "FlashRank, fp32 graph": "FlashRank, fp32",
    "fastembed TextCrossEncoder, fp32 graph": "fastembed, fp32",
    "optimum ORTModelForSequenceClassification, batches of 32": "optimum-onnx",
}
_LEFT, _TOP, _STEP, _BAR = 284, 84, 30, 20


@dataclass(frozen=True)
class Measured:
    """A row of the table: contender, median seconds of a call, and its time as a multiple of crossrank's in int8."""

    name: str
    seconds: float
    ratio: str

    @property
    def own(self) -> bool:
        """Whether it is crossrank."""
        return self.name.startswith("crossrank")


def read_figures(text: str) -> list[Measured]:
    """The rows of the table under the heading, the fastest first.

    Args:
        text: of docs/benchmarks.md.
    """
    section = text.split(HEADING, 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    figures = [Measured(_NAMES[row[0]], float(row[1]) / 1000, row[4].split()[0]) for row in rows[2:]]
    return sorted(figures, key=lambda row: row.seconds)


def machine(text: str) -> str:
    """Processor and date of the run, from the table of conditions."""
    found = dict(re.findall(r"^\| (date|processor) \| (.+?) \|$", text, re.MULTILINE))
    return f"{found['processor']}, {found['date'][:10]}"


def draw() -> Picture:
    """Draw a bar for each contender."""
    text = BENCHMARKS.read_text(encoding="utf-8")
    figures = read_figures(text)
    picture = Picture(
        860,
        _TOP + _STEP * len(figures) + 46,
        "Seconds to rerank 100 documents: " + ", ".join(f"{row.name} {row.seconds:.1f}" for row in figures),
    )
    picture.text(24, 34, "Seconds to rerank 100 documents, the same weights everywhere", "title")
    picture.text(24, 60, "pairs of 51 to 512 tokens; shorter is better", "soft")
    picture.text(836, 60, "times crossrank int8", "soft", anchor="end")
    scale = (720 - _LEFT) / figures[-1].seconds
    for index, row in enumerate(figures):
        y = _TOP + index * _STEP
        emphasis = "strong" if row.own else ""
        picture.text(_LEFT - 12, y + 15, row.name, emphasis, anchor="end")
        picture.box(_LEFT, y, row.seconds * scale, _BAR, "own" if row.own else "striped")
        picture.text(_LEFT + row.seconds * scale + 8, y + 15, f"{row.seconds:.1f} s", emphasis)
        picture.text(836, y + 15, row.ratio, emphasis, anchor="end")
    note = f"{machine(text)}; crossrank bench peers --rounds 3; every peer's figures: docs/benchmarks.md"
    picture.text(24, picture.height - 20, note, "small soft")
    return picture
