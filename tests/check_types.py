"""Run mypy in strict mode over the installed package, and see that it read every file of it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = (
    "api",
    "benchmarks",
    "bulk",
    "cli",
    "engine",
    "errors",
    "evaluation",
    "export",
    "integrations",
    "models",
    "self_check",
    "server",
)


def packaged_files() -> int:
    """How many Python files of the repository end up in the package."""
    return sum(
        1
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if not {"suites", "recipe"} & set(path.relative_to(ROOT).parts)
    )


def main() -> int:
    """Exit status of mypy, or 1 where it read another number of files."""
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "crossrank"]
    # Not in the repository root: mypy would take its folders for packages of their own.
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    checked = re.search(r"(?:in|checked) (\d+) source files?\)?", done.stdout)
    if done.returncode == 0 and (checked is None or int(checked[1]) != packaged_files()):
        sys.stderr.write(f"mypy read {checked and checked[1]} files, the package has {packaged_files()}\n")
        return 1
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
