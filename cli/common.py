"""What every command shares: exit codes, errors without traceback, where text and progress go."""

from __future__ import annotations

import json
import os
import sys
import traceback
import unicodedata
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from crossrank.errors import CrossrankError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

FAILURE = 1
USAGE = 2
INTERRUPTED = 130
"""Exit code of a program that ends by Ctrl-C."""


class _ConsoleOptions(TypedDict):
    highlight: bool
    markup: bool
    emoji: bool


_NO_TERMINAL_WIDTH = 1_000_000

# Printed text comes from files and manifests; brackets and colons in it are not markup for rich.
_PLAIN: _ConsoleOptions = {"highlight": False, "markup": False, "emoji": False}


class FileContentError(InvalidInputError):
    """A file given to a command does not have the format it should have."""


def open_closed_streams() -> None:
    """Replace closed standard streams by /dev/null.

    Where the caller closed one, Python sets it to None. Its descriptor is opened in any case: otherwise the next file
    that is opened would get it, and would receive what libraries print. `sys.stdin` stays None, so that the code that
    reads it can report that it is closed.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if name != "stdin":
                setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8", errors="replace"))


def out() -> Console:
    """Console for results, on standard output: as wide as the terminal; without wrapping if it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else _NO_TERMINAL_WIDTH, **_PLAIN)


def err() -> Console:
    """Console for progress and errors, on standard error."""
    return Console(stderr=True, soft_wrap=True, **_PLAIN)


def json_text(value: object, indent: int | None = None) -> str:
    """A value as JSON; characters beyond ASCII are escaped only if standard output cannot encode them."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # lone surrogates, or a terminal without UTF-8
        text = json.dumps(value, indent=indent)
    return text


def printable(text: str) -> str:
    """A text on one line, with U+FFFD for control characters and surrogates, or '?' where the output has none."""
    shown = "".join(
        "\ufffd" if unicodedata.category(character) in {"Cc", "Cs"} else character
        for character in " ".join(text.split())
    )
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, "replace").decode(encoding)


class ReportingGroup(TyperGroup):
    """The program's commands: an error of any of them is a line on standard error and an exit code.

    The code is 1 for a failure, 2 for wrong usage and 130 for Ctrl-C; with --debug the traceback is shown as well.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            returned = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            typer.echo("crossrank: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # the reader closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILURE) from None
        except (CrossrankError, OSError) as error:
            if ctx.params["debug"]:
                traceback.print_exception(error)
            else:
                typer.echo(f"crossrank: {error}", err=True)
            raise typer.Exit(USAGE if isinstance(error, InvalidInputError) else FAILURE) from None
        return returned


@contextmanager
def status(message: str) -> Iterator[None]:
    """Show a message on standard error while the `with` block runs, only on a terminal."""
    console = err()
    if console.is_terminal:
        with console.status(message):
            yield
    else:
        yield


def plain_table(
    columns: Iterable[str], *, right: Container[str] = (), no_wrap: Container[str] = (), title: str | None = None
) -> Table:
    """An empty table without lines.

    Args:
        columns: their headings.
        right: those aligned to the right.
        no_wrap: those whose cells stay on one line.
        title: above the table.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(column, justify=justify, no_wrap=column in no_wrap, overflow="fold")
    return table
