"""Prints the lowest version that pyproject.toml allows of everything a user installs, as constraints for pip."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTRAS = ("bulk", "cpu", "onnx", "export", "optimum", "server", "bench")


def lowest_versions(pyproject: Path) -> Iterator[str]:
    """Lines `name==version`, one for each requirement of the package and of the extras users choose from."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *(text for extra in EXTRAS for text in extras[extra])]:
        requirement = Requirement(text)
        if requirement.name == "crossrank":
            continue
        lower = [spec.version for spec in requirement.specifier if spec.operator == ">="]
        if len(lower) != 1:
            raise SystemExit(f"{text}: one lower bound expected")
        yield f"{requirement.name}=={lower[0]}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(dict.fromkeys(lowest_versions(Path(sys.argv[1])))) + "\n")
