"""Describes what a figure was measured with: machine, versions, load, and the artifact's digests."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.engine.runtime.cores import available_cores
from crossrank.models.artifact import MANIFEST_NAME, sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossrank.models.artifact import Artifact
    from crossrank.models.manifest import Architecture, Precision

_LIBRARIES = ("crossrank", "onnxruntime", "onnxruntime-gpu", "numpy", "tokenizers", "onnx")
_CPU_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
"""Processor features that decide how fast matrix products are."""


@dataclass(frozen=True)
class Machine:
    """What it ran on.

    Attributes:
        cpu: name of the processor.
        cpu_family_model: numbers of its family and model, where the system tells them.
        cpu_features: those of its features that decide how fast matrix products are.
        cores: cores this process may use.
        memory_gib: of the machine, in GiB.
        system: operating system.
    """

    cpu: str
    cpu_family_model: str
    cpu_features: tuple[str, ...]
    cores: int
    memory_gib: float
    system: str


@dataclass(frozen=True)
class RunDescription:
    """When and where something was measured: date (UTC), machine, versions and load average before."""

    date: str
    machine: Machine
    versions: dict[str, str]
    load_average_before: tuple[float, ...]

    def rows(self) -> list[tuple[str, str]]:
        """The description as rows of a table."""
        machine = self.machine
        vectors = ", ".join(machine.cpu_features) or "no"
        return [
            ("date", self.date),
            ("processor", f"{machine.cpu}, {machine.cores} cores, {vectors} vectors"),
            ("memory", f"{machine.memory_gib} GiB"),
            ("system", machine.system),
            ("versions", listed(self.versions)),
            ("load before", " ".join(str(value) for value in self.load_average_before)),
        ]


@dataclass(frozen=True)
class GraphDescription:
    """A graph's file, its digest, how it takes batches, and the passes that changed it."""

    file: str
    sha256: str
    batching: str
    passes: tuple[str, ...]


@dataclass(frozen=True)
class ArtifactDescription:
    """An artifact's name, digest, architecture and graphs by precision."""

    name: str
    manifest_sha256: str
    architecture: Architecture
    graphs: dict[Precision, GraphDescription]


def describe_run() -> RunDescription:
    """Describe this run; call it before measuring."""
    return RunDescription(
        date=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        versions=library_versions(),
        load_average_before=tuple(round(value, 2) for value in os.getloadavg()),
    )


def describe_machine() -> Machine:
    """Describe this machine."""
    fields = _cpu_fields()
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    pages, page_size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=fields.get("model name", platform.processor() or platform.machine()),
        cpu_family_model=" ".join(fields[key] for key in ("cpu family", "model") if key in fields),
        cpu_features=tuple(flag for flag in _CPU_FLAGS if flag in flags),
        cores=available_cores(),
        memory_gib=round(pages * page_size / 2**30, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that scores go through."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_artifact(artifact: Artifact) -> ArtifactDescription:
    """Describe an artifact."""
    manifest = artifact.manifest
    digests = {record.path: record.sha256 for record in manifest.files}
    return ArtifactDescription(
        manifest.name,
        sha256_of(artifact.path(MANIFEST_NAME)),
        manifest.architecture,
        {
            graph.precision: GraphDescription(
                graph.file,
                digests[graph.file],
                graph.batching,
                tuple(record.name for record in graph.passes if record.changed),
            )
            for graph in manifest.graphs
        },
    )


def listed(versions: Mapping[str, str]) -> str:
    """Names with their versions, between commas."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _cpu_fields() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo; empty if there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
