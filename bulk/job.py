"""What a job is: the inputs and the model that its scores depend on, and the machine that computes them."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import crossrank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossrank.bulk.checking import CheckedFile
    from crossrank.bulk.layout import Layout

_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "tokenizers")
_VECTORS = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "i8mm", "sve", "bf16", "vnni")


def scored_texts(files: Sequence[CheckedFile], layout: Layout) -> dict[str, Any]:
    """The texts of a job, for JSON: the files by their bytes, wherever they lie, and how they are read."""
    reading: dict[str, Any] = {"query": layout.query, "document": layout.document}
    if any(checked.file.form in {"csv", "tsv"} for checked in files):
        reading |= {"header": None if layout.header is None else list(layout.header), "quotes": layout.quotes}
    inputs = [
        {"form": checked.file.form, "rows": checked.rows, "size": checked.size, "sha256": checked.sha256}
        for checked in files
    ]
    return {"files": inputs, "reading": reading}


def machine(devices: str | None) -> dict[str, Any]:
    """What of this machine decides the last digits of a score: versions and the processor's vector units.

    Args:
        devices: the GPUs that score; None on the processor.
    """
    versions = {"crossrank": crossrank.__version__}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"versions": versions, "processor": _processor(), "devices": devices}


def differences(kept: dict[str, Any], now: dict[str, Any], where: str = "") -> list[str]:
    """Where two descriptions differ, in words, such as 'model.precision: "int8", now "fp32"'."""
    found = []
    for key in dict.fromkeys((*kept, *now)):
        one, other = kept.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += differences(one, other, f"{where}{key}.")
        elif one != other:
            found.append(f"{where}{key}: {_short(one)}, now {_short(other)}")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    longest = 120
    return text if len(text) <= longest else f"{text[:longest]}..."


def _processor() -> str:
    """The processor's name and vector units, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", fields.get("Features", "")).split()
    vectors = sorted(flag for flag in set(flags) if any(part in flag for part in _VECTORS))
    return f"{fields.get('model name', platform.machine())} ({' '.join(vectors)})"
