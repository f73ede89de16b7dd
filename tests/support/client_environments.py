"""Environments of clients of the HTTP service whose dependencies exclude each other, where `make clients` puts them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ENVIRONMENTS = Path(os.environ.get("CROSSRANK_CLIENTS", Path(__file__).parents[2] / ".clients"))


def python_of(name: str) -> Path:
    """The interpreter of an environment; the test is skipped where there is none."""
    python = ENVIRONMENTS / name / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {python}: 'make clients' installs it")
    return python
