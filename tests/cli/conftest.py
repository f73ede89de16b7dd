"""Running the command line: in this process, and as a user's shell does."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from crossrank.cli.app import app


@pytest.fixture
def crossrank() -> Callable[..., Any]:
    """A function that runs the command with arguments (and standard input) in this process."""

    def run(*arguments: object, stdin: str | bytes | None = None) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)

    return run


@pytest.fixture
def shell() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs `crossrank ...` in a process of its own."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from crossrank.cli import main; main()", *map(str, arguments)]
        environment = os.environ | options.pop("env", {})
        options = {"capture_output": True, "text": True, "timeout": 120} | options
        return subprocess.run(command, env=environment, check=False, **options)

    return run


@pytest.fixture
def terminal() -> Callable[..., str]:
    """A function that runs `crossrank ...` on a terminal of some columns; what standard output shows there."""

    def run(columns: int, *arguments: object) -> str:
        shown, tty = pty.openpty()
        fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        command = [sys.executable, "-c", "from crossrank.cli import main; main()", *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
        with subprocess.Popen(
            command, stdin=tty, stdout=tty, stderr=subprocess.DEVNULL, env=environment | {"TERM": "xterm"}
        ) as process:
            os.close(tty)
            text = b""
            try:
                while part := os.read(shown, 65536):
                    text += part
            except OSError:  # Linux says so when the last writer has gone
                pass
            os.close(shown)
            assert process.wait(120) == 0
        return text.decode()

    return run
