"""Build the source distribution and the wheel, check what they carry, install the wheel and rerank with it."""

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LARGEST_WHEEL = 75_000_000
IN_WHEEL = (
    "crossrank/py.typed",
    "crossrank/benchmarks/load/measure.py",
    "crossrank/engine/artifact_reranker.py",
    "crossrank/export/cuda_placement/cuda_kernels.toml",
    "crossrank/export/verify/verification_pairs.jsonl",
    "crossrank/models/catalogue.toml",
    "crossrank/server/page.html",
    "crossrank/models/default/artifact/manifest.json",
    "crossrank/models/default/artifact/int8.onnx",
    "crossrank/models/default/artifact/fp16.onnx",
)
IN_SOURCE = ("pyproject.toml", "LICENSE", "NOTICE", "api/py.typed", "models/default/artifact/int8.onnx")


def run(*command: str | Path, text: str = "") -> str:
    """Run a command; its output, or an exit with what it printed."""
    done = subprocess.run([str(part) for part in command], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def check_contents(names: set[str], expected: tuple[str, ...], what: str) -> None:
    """Exit where a file is missing, or the training checkpoint got in."""
    missing = [name for name in expected if name not in names]
    checkpoint = [name for name in names if "default/checkpoint" in name]
    if missing or checkpoint:
        sys.exit(f"{what}: missing {missing}, must not carry {checkpoint}")


def main() -> None:
    """Build, look inside, install in a fresh environment, rerank."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT)
        (source,) = (folder / "dist").glob("*.tar.gz")
        (wheel,) = (folder / "dist").glob("*.whl")
        with tarfile.open(source) as archive:
            check_contents({name.partition("/")[2] for name in archive.getnames()}, IN_SOURCE, source.name)
        with zipfile.ZipFile(wheel) as archive:
            check_contents(set(archive.namelist()), IN_WHEEL, wheel.name)
        size = wheel.stat().st_size
        if size > LARGEST_WHEEL:
            sys.exit(f"{wheel.name} has {size} bytes, at most {LARGEST_WHEEL} allowed")
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", f"{wheel}[cpu]")
        command = (folder / "venv" / "bin" / "crossrank", "rerank", "--query", "what do bees make", "--format", "jsonl")
        first = run(*command, text="Cars need petrol.\nBees make honey from nectar.\n").splitlines()[0]
        if "honey" not in first:
            sys.exit(f"the installed wheel ranks {first!r} first")
        sys.stdout.write(f"package: {wheel.name} {size / 1e6:.1f} MB, {source.name}: built, installed, reranked\n")


if __name__ == "__main__":
    main()
