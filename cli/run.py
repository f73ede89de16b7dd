"""What every command shares: settings, exit codes, errors without traceback, where text and progress go."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec

import typer
from rich.console import Console

from crossrank.models.errors import CrossrankError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAILURE = 1
USAGE = 2

Parameters = ParamSpec("Parameters")


@dataclass(frozen=True)
class Settings:
    """Options of the program rather than of one command."""

    debug: bool = False


class FileContentError(CrossrankError):
    """A file given to a command cannot be read as what it should hold."""


def out() -> Console:
    """Console for results, on standard output."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def err() -> Console:
    """Console for progress and errors, on standard error."""
    return Console(stderr=True, highlight=False)


def reports_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Turn errors into a line on standard error and an exit code: 1 for a failure, 2 for wrong usage."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        context = kwargs.get("context")
        debug = isinstance(context, typer.Context) and isinstance(context.obj, Settings) and context.obj.debug
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
    """Show what is going on, on standard error and only on a terminal."""
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
