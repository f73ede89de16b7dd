"""Which execution provider and which graph to run, without silent fallback.

onnxruntime falls back to the CPU silently when CUDA does not start, even where CUDA is listed as available. So before
CUDA is chosen, a one-node model has to run on it with the fallback disabled.
"""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.engine.runtime.onnxruntime_build import (
    both_builds_message,
    installed_builds,
    load_onnxruntime,
    preload_cuda_libraries,
)
from crossrank.engine.runtime.onnxruntime_messages import caught_messages
from crossrank.errors import PrecisionError, ProviderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossrank.models.artifact import Artifact
    from crossrank.models.manifest import Graph, Precision, PrecisionChoice, Provider, ProviderChoice

_PROVIDER_NAMES: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver for Linux lists the models of the GPUs."""
_PREFERRED: dict[Provider, tuple[Precision, ...]] = {"cpu": ("int8", "fp32", "fp16"), "cuda": ("fp16", "fp32")}

# A model with one float32 2x2 MatMul, made with onnx.helper (opset 13, IR version 7).
_PROBE_MODEL = base64.b64decode(
    "CAc6WQoRCgFhCgFiEgFjIgZNYXRNdWwSBXByb2JlWhMKAWESDgoMCAESCAoCCAIKAggCWhMKAWISDgoM"
    "CAESCAoCCAIKAggCYhMKAWMSDgoMCAESCAoCCAIKAggCQgQKABAN"
)


@dataclass(frozen=True)
class _Failure:
    reason: str
    fix: str


@dataclass(frozen=True)
class ProviderResolution:
    """A chosen provider and why.

    Attributes:
        provider: the provider to use.
        reason: why it was chosen.
        surprising: whether the CPU was chosen although onnxruntime's GPU build is installed.
    """

    provider: Provider
    reason: str
    surprising: bool = False


def provider_name(provider: Provider) -> str:
    """Onnxruntime's name of a provider."""
    return _PROVIDER_NAMES[provider]


def choose_provider(choice: ProviderChoice, devices: Sequence[int] = (0,)) -> ProviderResolution:
    """Resolve a choice of provider.

    Args:
        choice: what the caller asked for.
        devices: numbers of the GPUs that have to work.

    Raises:
        ProviderError: CUDA was asked for and does not work here; the message has the reason and how to fix it.
        MissingDependencyError: onnxruntime is not installed.
    """
    onnxruntime = load_onnxruntime()
    if choice == "cpu":
        return ProviderResolution("cpu", "asked for")
    failure = _cuda_failure(onnxruntime, devices)
    if failure is None:
        return ProviderResolution("cuda", "asked for" if choice == "cuda" else "auto: CUDA works here")
    if choice == "cuda":
        fix = both_builds_message() if len(installed_builds()) > 1 else failure.fix
        raise ProviderError(f"provider='cuda' does not work here: {failure.reason}. {fix}")
    # Whoever installed the GPU build expects a GPU, so using the CPU then is worth a warning.
    surprising = _PROVIDER_NAMES["cuda"] in onnxruntime.get_available_providers()
    return ProviderResolution("cpu", f"auto: {failure.reason}", surprising)


def cuda_device_name(devices: Sequence[int]) -> str:
    """A name of the GPUs, to store a calibration under; empty where the driver gives none. Not run on a GPU yet.

    Args:
        devices: numbers of the GPUs.
    """
    models = []
    for path in sorted(_DRIVER_FOLDER.glob("*/information")):
        with contextlib.suppress(OSError):
            models += [line for line in path.read_text(errors="replace").splitlines() if line.startswith("Model:")]
    return f"{models} {list(devices)}" if models else ""


def choose_graph(artifact: Artifact, provider: Provider, choice: PrecisionChoice) -> Graph:
    """The graph of an artifact to run.

    On the CPU, a graph that was made for CUDA is taken where no other has the precision. onnxruntime runs it there
    with casts, which is slow but allows checking it.

    Raises:
        PrecisionError: the artifact has no such graph.
    """
    if choice == "auto":
        for precision in _PREFERRED[provider]:
            graph = artifact.find_graph(precision, provider) or _any_on_cpu(artifact, provider, precision)
            if graph is not None:
                return graph
    else:
        graph = artifact.find_graph(choice, provider) or _any_on_cpu(artifact, provider, choice)
        if graph is not None:
            return graph
    available = ", ".join(f"{graph.precision} for {'/'.join(graph.providers)}" for graph in artifact.manifest.graphs)
    raise PrecisionError(
        f"artifact {artifact.manifest.name!r} has no {'graph' if choice == 'auto' else choice + ' graph'} for "
        f"provider {provider!r}; it has {available}. Choose one of these, or export the checkpoint again with "
        f"--precision {_PREFERRED[provider][0] if choice == 'auto' or provider == 'cuda' else choice}"
    )


def _any_on_cpu(artifact: Artifact, provider: Provider, precision: Precision) -> Graph | None:
    return artifact.find_graph(precision, "cuda") if provider == "cpu" else None


def _cuda_failure(onnxruntime: Any, devices: Sequence[int]) -> _Failure | None:
    """Why CUDA cannot be used, or None if the probe model runs on every device."""
    name = _PROVIDER_NAMES["cuda"]
    available = onnxruntime.get_available_providers()
    if name not in available:
        return _Failure(
            f"onnxruntime {onnxruntime.__version__} is built without CUDA (it has {', '.join(available)})",
            "Fix: pip uninstall -y onnxruntime, then pip install 'crossrank[gpu]'",
        )
    preload_cuda_libraries(onnxruntime)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    fix = "Check the NVIDIA driver (nvidia-smi) and the CUDA libraries (pip install 'crossrank[gpu]' brings them)"
    for device in devices:
        where = f"onnxruntime {onnxruntime.__version__}, GPU {device}"
        problem = ""
        with caught_messages() as messages:
            try:
                session = onnxruntime.InferenceSession(
                    _PROBE_MODEL,
                    options,
                    providers=[(name, {"device_id": str(device)})],
                    enable_fallback=0,  # otherwise it prints a message and tries the CPU
                )
                session.disable_fallback()
                placed = session.get_providers()[0]
            except Exception as error:
                problem = str(error)
            else:
                problem = "" if placed == name else f"onnxruntime put the graph on {placed}"
        if problem:
            return _Failure(f"CUDA did not start ({where}): {'; '.join(messages) or problem}", fix)
    return None
