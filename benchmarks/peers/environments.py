"""The peers' virtual environments: one each, so that their requirements do not conflict with ours or each other's.

Environments for CUDA are in the same folder, under names of their own. Whether they install and run has not been tried
on a GPU yet; the commands that make them are tested.
"""

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

    from crossrank.models.manifest import Provider

REQUIREMENTS = Path(__file__).parent / "requirements"
TORCH: dict[Provider, str] = {"cpu": "torch==2.13.0", "cuda": "torch"}
"""Installed before all else where it is needed. On the CPU it is pinned; where the index has a CPU build of it, no CUDA
libraries are installed with it. For CUDA it is not pinned: PyPI's build for Linux brings its own CUDA libraries, and
which of them work depends on the driver; result files record the version."""
_WITH_TORCH = frozenset(
    {"sentence-transformers", "sentence-transformers-onnx", "sentence-transformers-openvino", "infinity"}
)
_CUDA = "-cuda"
_REASON_LINES = 3


@dataclass(frozen=True)
class Installation:
    """How an environment's installation went; `reason` is empty where it succeeded."""

    environment: str
    reason: str


def environment_on(environment: str, provider: Provider) -> str:
    """The name of an environment for a provider."""
    return environment if provider == "cpu" else f"{environment}{_CUDA}"


def environment_names(provider: Provider = "cpu") -> list[str]:
    """The names of all environments for a provider."""
    names = sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))
    return [name for name in names if name.endswith(_CUDA) == (provider == "cuda")]


def pip_steps(home: Path, name: str) -> list[list[str]]:
    """The commands that make an environment.

    Args:
        home: its folder.
        name: of the environment.
    """
    provider: Provider = "cuda" if name.endswith(_CUDA) else "cpu"
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [[sys.executable, "-m", "venv", str(home)]]
    requirements = ["--requirement", str(REQUIREMENTS / f"{name}.txt")]
    if name.removesuffix(_CUDA) in _WITH_TORCH:
        steps.append([*pip, TORCH[provider]])
        requirements.append(TORCH[provider])  # named again, so that no other requirement changes its version
    steps.append([*pip, *requirements])
    return steps


def interpreter(folder: Path, environment: str) -> Path | None:
    """The Python of an environment; None if it is not installed completely."""
    home = folder / environment
    return home / "bin" / "python" if (home / "installed").is_file() else None


def install(
    folder: Path,
    names: Iterable[str] | None = None,
    *,
    provider: Provider = "cpu",
    progress: Callable[[str], None] = lambda _: None,
) -> list[Installation]:
    """Make environments with pip; those that are installed already are left as they are.

    Args:
        folder: gets one folder for each environment.
        names: which ones; None makes all of the provider.
        provider: execution provider that they are for.
        progress: called with the name of each environment before it is installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name in names if names is not None else environment_names(provider):
        if interpreter(folder, name) is None:
            progress(name)
            results.append(Installation(name, _install(folder / name, name)))
        else:
            results.append(Installation(name, ""))
    return results


def _install(home: Path, name: str) -> str:
    """Make one environment; returns the reason if that failed, else an empty string."""
    if home.exists():
        shutil.rmtree(home)  # left by an interrupted installation
    # The environment we run in must not leak into the one that is made.
    variables = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME"}}
    for step in pip_steps(home, name):
        done = subprocess.run(step, env=variables, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            lines = errors or done.stderr.strip().splitlines()[-_REASON_LINES:] or [f"exit status {done.returncode}"]
            return "; ".join(lines)
    (home / "installed").touch()
    return ""
