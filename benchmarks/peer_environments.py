"""The peers' virtual environments: one each, so that their requirements constrain neither ours nor each other's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REQUIREMENTS = Path(__file__).parent / "peers"
TORCH = "torch==2.13.0"
"""Installed before all else where it is needed; where the index holds a CPU build, no CUDA libraries come with it."""
_WITH_TORCH = frozenset(
    {"sentence-transformers", "sentence-transformers-onnx", "sentence-transformers-openvino", "infinity"}
)
_REASON_LINES = 3


@dataclass(frozen=True)
class Installation:
    """How an environment's installation went; `reason` is empty where it succeeded."""

    environment: str
    reason: str


def environment_names() -> list[str]:
    """All environments that have requirements."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def interpreter(folder: Path, environment: str) -> Path | None:
    """The Python of an installed environment, or None."""
    home = folder / environment
    return home / "bin" / "python" if (home / "installed").is_file() else None


def install(
    folder: Path, names: Iterable[str] | None = None, *, progress: Callable[[str], None] = lambda _: None
) -> list[Installation]:
    """Make environments with pip; those that are installed already are left as they are.

    Args:
        folder: where they go, one folder each.
        names: which; None makes all.
        progress: told each environment before work on it starts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name in names if names is not None else environment_names():
        if interpreter(folder, name) is None:
            progress(name)
            results.append(Installation(name, _install(folder / name, name)))
        else:
            results.append(Installation(name, ""))
    return results


def _install(home: Path, name: str) -> str:
    """Make one environment; returns the reason of a failure, or nothing."""
    if home.exists():
        shutil.rmtree(home)  # what an interrupted installation left
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [[sys.executable, "-m", "venv", str(home)]]
    requirements = ["--requirement", str(REQUIREMENTS / f"{name}.txt")]
    if name in _WITH_TORCH:
        steps.append([*pip, TORCH])
        requirements.append(TORCH)  # named again, so that no other requirement replaces it
    steps.append([*pip, *requirements])
    # The environment we run in must not leak into the one that is made.
    variables = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME"}}
    for step in steps:
        done = subprocess.run(step, env=variables, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            lines = errors or done.stderr.strip().splitlines()[-_REASON_LINES:] or [f"exit status {done.returncode}"]
            return "; ".join(lines)
    (home / "installed").touch()
    return ""
