"""Running code in a Python of its own, for what depends on the state of a whole process."""

from __future__ import annotations

import os
import subprocess
import sys


def run_python(code: str, *arguments: object, timeout: float = 120, **environment: str) -> str:
    """Run code and return what it printed; fails with its standard error where it fails or hangs.

    Args:
        code: the program; `sys.argv[1:]` are the arguments.
        *arguments: turned to strings.
        timeout: seconds.
        **environment: variables on top of this process's, without those that the tests or crossrank set in it.
    """
    set_here = {"TOKENIZERS_PARALLELISM", "ORT_DISABLE_TELEMETRY"}
    inherited = {name: value for name, value in os.environ.items() if name not in set_here}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"hung for {timeout} s; printed {error.stdout!r} and {error.stderr!r}") from error
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
