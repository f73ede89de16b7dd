"""Running the command line: in this process, and as a user's shell does."""

from __future__ import annotations

import os
import subprocess
import sys
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
