"""Every code block of the documentation works: each page is followed from top to bottom, in an empty folder."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from documentation_pages import Page, PageError, check_command, commands
from served_app import server_process

ROOT = Path(__file__).parents[2]
GENERATED = {ROOT / "docs" / "notebook.md", ROOT / "docs" / "reference" / "commands.md"}  # by make docs
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").rglob("*.md")} - GENERATED)]


@pytest.fixture(scope="session")
def service():
    """A function that gives the address of a running service, which the first page that asks starts."""
    with ExitStack() as stack:
        urls = []

        def address():
            if not urls:
                urls.append(stack.enter_context(server_process()).url)
            return urls[0].removeprefix("http://")

        yield address


@pytest.fixture
def page(service, tmp_path, monkeypatch):
    """A page that has not been begun, in an empty folder where `crossrank` and this `python` are on the PATH."""
    programs = tmp_path.with_name(tmp_path.name + "-programs")
    programs.mkdir()
    for name, command in (("crossrank", "-m crossrank"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {command} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return Page(service)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_can_be_followed_from_top_to_bottom(page, path):
    page.follow(path)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("crossrank rerank --query x --top-n 3 file.txt", "no such option"),
        ("crossrank reread", "no such command"),
        ("crossrank bench latency --model default --lengths short", "no such option"),
        ("cat x | crossrank rerank --qery x", "no such option"),
        ("pip install 'crossrank[cpu,serve]'", "no such extras: ['serve']"),
        ("make dmeo", "no target dmeo"),
    ],
)
def test_a_command_that_does_not_exist_is_found(block, reason):
    with pytest.raises(PageError, match="(?i)" + reason.replace("[", r"\[").replace("]", r"\]")):
        check_command(block)


def test_a_block_is_taken_apart_as_a_shell_does():
    block = "one  # a comment\n# only a comment\n\ntwo \\\n  more\ncurl -d '{\n}' url\ncat > f <<'END'\nx\nEND\nlast\n"
    assert list(commands(block)) == [
        "one  # a comment",
        "two \\\n  more",
        "curl -d '{\n}' url",
        "cat > f <<'END'\nx\nEND",
        "last",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "```python\n1 / 0\n```\n",
        "```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n",
        "<!-- invisible-code: python\nx = 1\nassert x == 2\n-->\n",
        "```sh\ncrossrank inspect nothing\n```\n",
        "```sh\nfalse\n```\n",
        "```sh\ncurl -s localhost:8000/no-such-route\n```\n",
        "```sh\ncrossrank serve\ncurl -s localhost:8000/health\n```\n",
        "```sh\npip install 'crossrank[cpu]' && crossrank serve\ncrossrank models\n```\n",
        "<!-- not run: no reason -->\n\n```sh\ncrossrank serve  # in the foreground\ntrue\n```\n",
        "<!-- not run: no reason -->\n\n```python\n1 +\n```\n",
        "<!-- not run: no reason -->\n\n```sh\ncrossrank rerank --nothing\n```\n",
    ],
)
def test_a_block_that_fails_fails_its_page(page, tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises((PageError, ZeroDivisionError, AssertionError, SyntaxError)):
        page.follow(path)


@pytest.mark.parametrize("comment", ["not run: it divides by zero", "needs: a_module_nobody_has"])
def test_a_block_that_cannot_run_here_is_checked_only(page, tmp_path, comment):
    path = tmp_path / "page.md"
    path.write_text(f"<!-- {comment} -->\n\n```python\n1 / 0\n```\n")
    page.follow(path)
    assert page.ran == []
