"""Describes what a figure was measured with: machine, versions, load, and the artifact's digests."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.engine.runtime.cores import available_cores
from crossrank.models.artifact import MANIFEST_NAME, sha256_of

if TYPE_CHECKING:
    from crossrank.models.artifact import Artifact

_LIBRARIES = ("crossrank", "onnxruntime", "onnxruntime-gpu", "numpy", "tokenizers", "onnx")
_CPU_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
"""Processor features that decide how fast matrix products are."""


def describe_run() -> dict[str, Any]:
    """Date (UTC), machine, versions and load average; call it before measuring."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": library_versions(),
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
    }


def describe_machine() -> dict[str, Any]:
    """Processor model and features, cores this process may use, memory in GiB, operating system."""
    fields = _cpu_fields()
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    pages, page_size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": fields.get("model name", platform.processor() or platform.machine()),
        "cpu_family_model": " ".join(fields[key] for key in ("cpu family", "model") if key in fields),
        "cpu_features": [flag for flag in _CPU_FLAGS if flag in flags],
        "cores": available_cores(),
        "memory_gib": round(pages * page_size / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that scores go through."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_artifact(artifact: Artifact) -> dict[str, Any]:
    """Name, architecture and digests of an artifact, and the passes that changed each graph."""
    manifest = artifact.manifest
    digests = {record.path: record.sha256 for record in manifest.files}
    return {
        "name": manifest.name,
        "manifest_sha256": sha256_of(artifact.path(MANIFEST_NAME)),
        "architecture": manifest.architecture.model_dump(),
        "graphs": {
            graph.precision: {
                "file": graph.file,
                "sha256": digests[graph.file],
                "batching": graph.batching,
                "passes": [record.name for record in graph.passes if record.changed],
            }
            for graph in manifest.graphs
        },
    }


def _cpu_fields() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo; empty if there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
