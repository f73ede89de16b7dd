"""The installed onnxruntime: importing it, and which of its two builds (CPU, GPU) it is."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import warnings
from typing import Any

from packaging.version import InvalidVersion, Version

from crossrank.errors import MissingDependencyError

OLDEST_VERSION = Version("1.30")
"""Of onnxruntime. 1.28 and older crash in packed runs; 1.29 was seen to give another int8 score than later ones."""

_BUILDS = ("onnxruntime", "onnxruntime-gpu")


def installed_builds() -> tuple[str, ...]:
    """Distributions of onnxruntime that are installed: none, one, or (a broken installation) both."""
    builds = []
    for name in _BUILDS:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        builds.append(name)
    return tuple(builds)


def load_onnxruntime() -> Any:
    """Import onnxruntime, with its telemetry off unless the user turned it on (ORT_DISABLE_TELEMETRY=0).

    Raises:
        MissingDependencyError: neither build is installed, or it does not import, or it is too old.
    """
    try:
        onnxruntime = importlib.import_module("onnxruntime")
        # Uninstalling one of two builds can leave an empty package that still imports.
        _ = onnxruntime.InferenceSession
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"crossrank scores with onnxruntime, which does not import here ({error}); install one build: "
            "pip install 'crossrank[cpu]', or for an NVIDIA GPU pip install 'crossrank[gpu]'"
        ) from error
    if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":
        # The variable alone does nothing where the application loaded onnxruntime before crossrank.
        onnxruntime.disable_telemetry_events()
    _refuse_older(str(getattr(onnxruntime, "__version__", "")))
    _warn_of_both_builds()
    return onnxruntime


def _refuse_older(version: str) -> None:
    """Refuse an onnxruntime that would end the whole process in a run of packed pairs.

    Raises:
        MissingDependencyError: the version is older than `OLDEST_VERSION`.
    """
    try:
        older = Version(version) < OLDEST_VERSION
    except InvalidVersion:  # a build of somebody's own
        return
    if older:
        raise MissingDependencyError(
            f"onnxruntime {version} is installed, {OLDEST_VERSION} or later expected: older ones divide by zero in "
            f"attention over no tokens, which packed batches have, and that ends the process. Fix: pip install -U "
            f"'onnxruntime>={OLDEST_VERSION}' (or onnxruntime-gpu)"
        )


@functools.cache
def _warn_of_both_builds() -> None:
    if len(installed_builds()) > 1:
        warnings.warn(both_builds_message(), RuntimeWarning, stacklevel=4)


def both_builds_message() -> str:
    """The problem with having both builds installed, and how to fix it."""
    return (
        "onnxruntime and onnxruntime-gpu are both installed; they overwrite each other's files, and which one runs is "
        "random. Fix: pip uninstall -y onnxruntime onnxruntime-gpu, then install one of crossrank[cpu], crossrank[gpu]"
    )


def preload_cuda_libraries(onnxruntime: Any) -> None:
    """Load the CUDA libraries of `onnxruntime-gpu[cuda,cudnn]`, without output; does nothing on a CPU build.

    Not run on a GPU yet.
    """
    if hasattr(onnxruntime, "preload_dlls"):
        import contextlib
        import io

        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            onnxruntime.preload_dlls()
