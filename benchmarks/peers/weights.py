"""The weights of the comparison: one checkpoint, converted once to every form that the contenders load."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.benchmarks.peers.environments import environment_on, interpreter
from crossrank.benchmarks.peers.worker_process import WORKERS, worker_variables
from crossrank.errors import CrossrankError
from crossrank.models.artifact import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crossrank.models.manifest import Provider

_EXPORTING_ENVIRONMENT = "sentence-transformers-onnx"
_SUBFOLDER = "weights"


class WeightsError(CrossrankError):
    """The weights could not be converted for the peers."""


@dataclass(frozen=True)
class Weights:
    """Where the forms of the weights are.

    Attributes:
        checkpoint: folder with float32 safetensors and tokenizer.
        fp32_graph: ONNX file as optimum exports it, tokenizer beside it.
        int8_graph: the same, dynamically quantized by onnxruntime with its defaults.
    """

    checkpoint: Path
    fp32_graph: Path
    int8_graph: Path


def prepare_weights(checkpoint: Path, peers_folder: Path, provider: Provider = "cpu") -> Weights:
    """Convert a checkpoint to every form, or reuse what was converted before from the same files.

    Args:
        checkpoint: transformers checkpoint folder.
        peers_folder: where the peers' environments are; the forms are written there too.
        provider: execution provider of the environments; the forms do not depend on it.

    Raises:
        WeightsError: the conversion failed; the message has the last line of its output.
    """
    folder = peers_folder / _SUBFOLDER / _digest(path for path in checkpoint.iterdir() if path.is_file())
    if not folder.is_dir():
        _convert(checkpoint, folder, peers_folder, environment_on(_EXPORTING_ENVIRONMENT, provider))
    return Weights(folder / "checkpoint", folder / "fp32" / "model.onnx", folder / "int8" / "model.onnx")


def _convert(checkpoint: Path, folder: Path, peers_folder: Path, environment: str) -> None:
    python = interpreter(peers_folder, environment) or Path(sys.executable)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
    try:
        done = subprocess.run(
            [str(python), str(WORKERS / "prepare_weights.py"), str(checkpoint.absolute()), str(partial)],
            env=worker_variables(own_environment=python == Path(sys.executable)),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise WeightsError(
                f"{python} could not prepare the peers' weights: {reason}. It needs transformers, optimum-onnx and "
                f"onnxruntime: install the peer environment {environment!r} or crossrank[export]"
            )
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _digest(paths: Iterable[Path]) -> str:
    """16 hexadecimal digits from names and contents of files, and from the script that converts them."""
    digest = hashlib.sha256(sha256_of(WORKERS / "prepare_weights.py").encode())
    for path in sorted(paths):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()[:16]
