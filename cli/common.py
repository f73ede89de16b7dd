"""What every command shares: settings, exit codes, errors without traceback, where text and progress go."""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypedDict

import typer
from rich.console import Console

from crossrank.errors import CrossrankError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAILURE = 1
USAGE = 2

Parameters = ParamSpec("Parameters")


class _ConsoleOptions(TypedDict):
    highlight: bool
    markup: bool
    emoji: bool


_NO_TERMINAL_WIDTH = 1_000_000

# What is printed comes from files and manifests: no brackets or colons in it are meant for rich.
_PLAIN: _ConsoleOptions = {"highlight": False, "markup": False, "emoji": False}


@dataclass(frozen=True)
class Settings:
    """Options of the program rather than of one command."""

    debug: bool = False


class FileContentError(CrossrankError):
    """A file given to a command cannot be read as what it should hold."""


def open_closed_streams() -> None:
    """Put /dev/null where standard output or error was closed, so that output to it is discarded, as the caller wants.

    Python has None there. The descriptors are taken in any case: a file that is opened later would get theirs, and with
    it what libraries print. Standard input stays None, because its reader has to tell that there is none.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if name != "stdin":
                setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8", errors="replace"))


def out() -> Console:
    """Console for results, on standard output: as wide as the terminal, unwrapped where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else _NO_TERMINAL_WIDTH, **_PLAIN)


def err() -> Console:
    """Console for progress and errors, on standard error."""
    return Console(stderr=True, soft_wrap=True, **_PLAIN)


def json_text(value: object, indent: int | None = None) -> str:
    """A value as JSON, with characters beyond ASCII as they are where standard output takes them, else escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # lone surrogates, or a terminal without UTF-8
        text = json.dumps(value, indent=indent)
    return text


def printable(text: str) -> str:
    """A text on one line, with U+FFFD for what would command a terminal or cannot be encoded."""
    return "".join(
        "\ufffd" if unicodedata.category(character) in {"Cc", "Cs"} else character
        for character in " ".join(text.split())
    )


def reports_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Turn errors into a line on standard error and an exit code: 1 for a failure, 2 for wrong usage."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        # Not asked for its type: typer may bring a context class of its own, which is none of click's.
        settings = getattr(kwargs.get("context"), "obj", None)
        debug = isinstance(settings, Settings) and settings.debug
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of a pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILURE) from None
        except InvalidInputError as error:
            _report(error, debug=debug)
            raise typer.Exit(USAGE) from None
        except (CrossrankError, OSError) as error:
            _report(error, debug=debug)
            raise typer.Exit(FAILURE) from None

    return wrapped


@contextmanager
def status(message: str) -> Iterator[None]:
    """Show the current step on standard error, only on a terminal."""
    console = err()
    if console.is_terminal:
        with console.status(message):
            yield
    else:
        yield


def _report(error: Exception, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    else:
        typer.echo(f"crossrank: {error}", err=True)
