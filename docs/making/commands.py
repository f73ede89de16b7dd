"""Writes the page of every command and option, docs/reference/commands.md; `make docs` makes it anew each time."""

from __future__ import annotations

from pathlib import Path

import typer
import typer.main
from typer.cli import get_docs_for_click

from crossrank.cli.app import app

PAGE = Path(__file__).parents[1] / "reference" / "commands.md"


def page() -> str:
    """The program's help as Markdown, a section for each command."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="crossrank"), name="crossrank")
    return text.replace("# `crossrank`\n", "# Every command and option\n", 1)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
