"""Runs code in a new Python process, for tests that depend on the state of a whole process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def run_python(code: str, *arguments: object, timeout: float = 120, **environment: str) -> str:
    """Run code and return what it printed; raises with its standard error if it fails or hangs.

    Args:
        code: the program; `sys.argv[1:]` are the arguments.
        *arguments: turned to strings.
        timeout: seconds.
        **environment: variables on top of this process's, without those that the tests or crossrank set in it.
    """
    set_here = {"TOKENIZERS_PARALLELISM", "ORT_DISABLE_TELEMETRY"}
    inherited = {name: value for name, value in os.environ.items() if name not in set_here}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, error = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its children too, because they may be what hangs
        out, error = process.communicate()
        raise AssertionError(f"hung for {timeout} s\n{out}\n{error}") from None
    assert process.returncode == 0, f"exit code {process.returncode}\n{out}\n{error}"
    return out
