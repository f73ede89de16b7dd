"""Build the source distribution and the wheel, check what they carry, install the wheel and rerank with it.

The wheel is installed without torch. It reranks with the embedded model, and with one that it pulls from a hub on this
machine by its catalogue name.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests" / "support"))
LARGEST_WHEEL = 100_000_000
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
    "crossrank/models/default/cascade.toml",
    "crossrank/models/default/cascade_of_one_model.toml",
    "crossrank/models/default-small/artifact/manifest.json",
    "crossrank/models/default-small/artifact/int8.onnx",
)
IN_SOURCE = (
    "pyproject.toml",
    "LICENSE",
    "NOTICE",
    "api/py.typed",
    "models/default/artifact/int8.onnx",
    "models/default-small/artifact/int8.onnx",
)
DOCUMENTS = "Cars need petrol.\nBees make honey from nectar.\n"


def run(*command: str | Path, text: str = "", env: dict[str, str] | None = None) -> str:
    """Run a command; its output, or an exit with what it printed."""
    done = subprocess.run(
        [str(part) for part in command], input=text, capture_output=True, text=True, check=False, env=env
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def check_contents(names: set[str], expected: tuple[str, ...], what: str) -> None:
    """Exit where a file is missing, or the training checkpoint got in."""
    missing = [name for name in expected if name not in names]
    checkpoint = [name for name in names if "/checkpoint/" in name and "models/default" in name]
    if missing or checkpoint:
        sys.exit(f"{what}: missing {missing}, must not carry {checkpoint}")


def make_repository(folder: Path) -> Path:
    """A tiny checkpoint with its float32 graph, as a hub repository has them; made here, where torch is."""
    import onnx
    from tiny_checkpoints import make_checkpoint

    from crossrank.export.checkpoint.checkpoint import read_checkpoint
    from crossrank.export.checkpoint.to_onnx import to_onnx
    from crossrank.export.checkpoint.torch_model import load_torch_model

    checkpoint = read_checkpoint(make_checkpoint("bert", folder, layers=1))
    (folder / "onnx").mkdir()
    onnx.save(to_onnx(checkpoint, load_torch_model(checkpoint)), folder / "onnx" / "model.onnx")
    return folder


def check_ready_graph(program: Path, folder: Path) -> str:
    """Pull a model from a hub by its name, then rank without a network; the files that were fetched."""
    from fake_hub import FakeHub

    hub = FakeHub(make_repository(folder / "repository"), hub_id="cross-encoder/ms-marco-MiniLM-L6-v2")
    environment = hub.environment(folder)
    pulled = json.loads(run(program, "pull", "ms-marco-MiniLM-L6-v2", "--json", env=environment))
    hub.close()
    compared = pulled["manifest"]["verification"]["reference"]
    if not compared.startswith("the ONNX file as it came") or "model.safetensors" in hub.fetched:
        sys.exit(f"the wheel fetched {hub.fetched} and compared its graph with {compared}")
    rerank = ("rerank", "--model", "ms-marco-MiniLM-L6-v2", "--query", "the river", "--format", "jsonl")
    ranked = run(program, *rerank, text="cold water\nbread\n", env=environment | {"HF_HUB_OFFLINE": "1"}).splitlines()
    if len(ranked) != 2:
        sys.exit(f"the wheel ranks {ranked} with the model it pulled")
    return f"{len(hub.fetched)} files fetched, {pulled['manifest']['graphs'][0]['precision']} without torch"


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
        run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", f"{wheel}[cpu,onnx]")
        program = folder / "venv" / "bin" / "crossrank"
        command = (program, "rerank", "--query", "what do bees make", "--format", "jsonl")
        for model in ("default", "default-small"):
            first = run(*command, "--model", model, text=DOCUMENTS).splitlines()[0]
            if "honey" not in first:
                sys.exit(f"{model} of the installed wheel ranks {first!r} first")
        pulled = check_ready_graph(program, folder)
        size_mb = f"{size / 1e6:.1f} MB"
        sys.stdout.write(f"package: {wheel.name} {size_mb}, {source.name}: built, installed, reranked; {pulled}\n")


if __name__ == "__main__":
    main()
