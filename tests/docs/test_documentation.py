"""The documentation's pictures, notebook, README and list of pages are those of this code."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MADE_BY_THE_BUILD = {"notebook.md", "reference/commands.md"}


@pytest.fixture
def making(monkeypatch):
    """The folder whose modules make pictures and pages, on the import path."""
    monkeypatch.syspath_prepend(DOCS / "making")
    yield
    for name in [path.stem for path in (DOCS / "making").glob("*.py")]:
        sys.modules.pop(name, None)


def test_the_pictures_are_what_the_figures_give(making):
    from draw import PICTURES

    for name, draw in PICTURES.items():
        assert (DOCS / "images" / name).read_text(encoding="utf-8") == draw().svg(), f"{name}: run make pictures"


def test_the_picture_of_the_readme_has_every_contender_of_the_table(making):
    from peers import BENCHMARKS, HEADING, read_figures

    text = BENCHMARKS.read_text(encoding="utf-8")
    table = text.split(HEADING)[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if re.match(r"\| [^c-]|\| crossrank", line)]
    figures = read_figures(text)
    assert len(figures) == len(rows) == 10
    assert [row.seconds for row in figures] == sorted(row.seconds for row in figures)
    assert figures[0].name == "crossrank, int8"
    assert figures[0].seconds == 2.027


def test_pictures_tell_things_apart_without_colour(making):
    from draw import PICTURES

    for name, draw in PICTURES.items():
        svg = draw().svg()
        fills = set(re.findall(r'class="(own|other|striped|empty)"', svg))
        assert len(fills) > 1 or name == "int8.svg", name
        assert "other" not in fills, f"{name}: a plain second fill differs in colour alone"
        assert "prefers-color-scheme: dark" in svg


def test_the_notebook_runs_from_top_to_bottom(making):
    from notebook import read, run

    notebook = read()
    kept = [
        "".join(text for output in cell["outputs"] for text in output["text"])
        for cell in notebook["cells"]
        if "outputs" in cell
    ]
    printed = run(notebook)
    assert all(kept), "run make notebook"
    assert [text.count("\n") for text in printed] == [text.count("\n") for text in kept], "run make notebook"
    assert "[True, True, True, True, True, True]" in "".join(printed)


def test_the_notebook_is_a_page_with_all_its_cells(making):
    from notebook import page, read

    text = page(read())
    assert text.count("```python\n") == sum(cell["cell_type"] == "code" for cell in read()["cells"])
    assert text.startswith("# ")


def test_every_page_is_in_the_navigation():
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))

    def pages(entry):
        if isinstance(entry, str):
            yield entry
        else:
            for child in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(child)

    listed = set(pages(config["project"]["nav"]))
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} | MADE_BY_THE_BUILD
    assert there - listed == set(), "add them to nav in zensical.toml"
    assert listed - there == set()


def test_the_readme_takes_two_screens_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    assert len(shown.splitlines()) <= 100
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text)]
    assert targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []
