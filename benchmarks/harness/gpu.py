"""Describes the GPU that a figure was measured on: nvidia-smi's fields, CUDA libraries, onnxruntime's build.

The nvidia-smi program comes with every driver, so no further library is needed. Not run on a GPU yet: parsing of its
output is tested with sample text.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.benchmarks.harness.environment import listed
from crossrank.engine.runtime.onnxruntime_build import installed_builds, load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIELDS = (
    "name",
    "uuid",
    "driver_version",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "power.limit",
    "temperature.gpu",
    "memory.total",
    "memory.used",
)
"""The fields that nvidia-smi is asked for; `nvidia-smi --help-query-gpu` lists all."""
_PROGRAM = "nvidia-smi"
_TIMEOUT = 30.0
_UNKNOWN = ("[N/A]", "[Not Supported]", "[Unknown Error]", "")


@dataclass(frozen=True)
class SmiAnswer:
    """The answer of nvidia-smi.

    Attributes:
        devices: for each GPU its fields with units; None for a field that the driver does not report.
        reason: why there is no device; empty if there are some.
    """

    devices: tuple[Mapping[str, str | None], ...] = ()
    reason: str = ""


def parse_smi(text: str, fields: Sequence[str] = FIELDS) -> SmiAnswer:
    """Parse the output of `nvidia-smi --query-gpu=FIELDS --format=csv,noheader`.

    Args:
        text: the output.
        fields: the fields that were asked for, in that order.
    """
    devices = []
    for row in csv.reader(io.StringIO(text), skipinitialspace=True):
        if not row:
            continue
        if len(row) != len(fields):
            return SmiAnswer(reason=f"{_PROGRAM} printed {','.join(row)!r}; {len(fields)} fields expected")
        values = (value.strip() for value in row)
        devices.append({name: None if value in _UNKNOWN else value for name, value in zip(fields, values, strict=True)})
    return SmiAnswer(tuple(devices), "" if devices else f"{_PROGRAM} named no GPU")


def ask_smi(fields: Sequence[str] = FIELDS, *, selector: str | None = None, program: str = _PROGRAM) -> SmiAnswer:
    """Run nvidia-smi; if it is missing or fails, the answer has the reason.

    Args:
        fields: what to ask for.
        selector: which GPU, by its index or UUID; None asks for all.
        program: path or name of nvidia-smi.
    """
    command = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    if selector is not None:
        command += ["-i", selector]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except OSError as error:
        return SmiAnswer(reason=f"{program} does not run here: {error}")
    except subprocess.TimeoutExpired:
        return SmiAnswer(reason=f"{program} gave no answer within {_TIMEOUT:.0f} s")
    if done.returncode != 0:
        output = " ".join((done.stdout + done.stderr).split())
        return SmiAnswer(reason=f"{program} ended with exit status {done.returncode}: {output or 'it printed nothing'}")
    return parse_smi(done.stdout, fields)


def smi_selector(device: int, visible: str | None) -> str:
    """The name of a CUDA device for nvidia-smi.

    nvidia-smi lists every GPU; a CUDA program sees those that CUDA_VISIBLE_DEVICES names, numbered from 0 in its order.
    Without that variable the numbers are the same if all GPUs are of one model or CUDA_DEVICE_ORDER is PCI_BUS_ID.

    Args:
        device: CUDA device id.
        visible: value of CUDA_VISIBLE_DEVICES; None where it is not set.
    """
    names = [] if visible is None else [name.strip() for name in visible.split(",")]
    return names[device] if device < len(names) and names[device] else str(device)


def used_mebibytes(device: int) -> int | None:
    """Memory that all processes use on a device, in MiB; None if nvidia-smi does not report it."""
    answer = ask_smi(("memory.used",), selector=smi_selector(device, os.environ.get("CUDA_VISIBLE_DEVICES")))
    value = answer.devices[0]["memory.used"] if answer.devices else None
    number, _, unit = (value or "").partition(" ")
    return int(number) if number.isdigit() and unit == "MiB" else None


def cuda_libraries() -> dict[str, str]:
    """Versions of NVIDIA's libraries that pip installed, by package."""
    versions = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"] or ""
        if name.startswith("nvidia-"):
            versions[name] = distribution.version
    return dict(sorted(versions.items()))


@dataclass(frozen=True)
class OnnxruntimeDescription:
    """The installed onnxruntime: version, packages, providers, build."""

    version: str
    packages: tuple[str, ...]
    providers: tuple[str, ...]
    build: str


@dataclass(frozen=True)
class GpuDescription:
    """A CUDA device and what runs on it.

    Attributes:
        device: CUDA device id.
        nvidia_smi: nvidia-smi's fields; under 'reason' why there are none.
        cuda_libraries: versions by package.
        onnxruntime: the installed one.
    """

    device: int
    nvidia_smi: dict[str, str | None]
    cuda_libraries: dict[str, str]
    onnxruntime: OnnxruntimeDescription

    def rows(self, after: GpuDescription | None) -> list[tuple[str, str]]:
        """The description as rows of a table.

        Args:
            after: the same device after measuring.
        """
        smi = self.nvidia_smi
        if "reason" in smi:
            return [("GPU", smi["reason"] or "")]
        clock_after = after.nvidia_smi.get("clocks.sm") if after else None
        clocks = f"SM {smi['clocks.sm']}, after {clock_after} (at most {smi['clocks.max.sm']})"
        return [
            (
                "GPU",
                f"{smi['name']}, {smi['memory.total']}, driver {smi['driver_version']}, limit {smi['power.limit']}",
            ),
            ("GPU clocks", f"{clocks}, memory {smi['clocks.mem']}, {smi['temperature.gpu']} degrees before"),
            ("CUDA libraries", listed(self.cuda_libraries) or "none installed with pip"),
        ]


def describe_onnxruntime() -> OnnxruntimeDescription:
    """Describe the installed onnxruntime.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
    """
    onnxruntime = load_onnxruntime()
    return OnnxruntimeDescription(
        onnxruntime.__version__,
        tuple(installed_builds()),
        tuple(onnxruntime.get_available_providers()),
        onnxruntime.get_build_info(),
    )


def describe_gpu(device: int = 0) -> GpuDescription:
    """Device, driver, clocks and library versions. Call it before measuring, and again afterwards for the clocks.

    Args:
        device: CUDA device id.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
    """
    answer = ask_smi(selector=smi_selector(device, os.environ.get("CUDA_VISIBLE_DEVICES")))
    fields: dict[str, str | None] = dict(answer.devices[0]) if answer.devices else {"reason": answer.reason}
    return GpuDescription(device, fields, cuda_libraries(), describe_onnxruntime())
