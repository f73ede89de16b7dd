"""Whether memory grows over many calls."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.benchmarks.harness.gpu import used_mebibytes
from crossrank.self_check.result import CheckResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crossrank.models.manifest import Precision
    from crossrank.self_check.subject import Subject

NAME = "memory"
ALLOWED_MIB = 32.0
"""Growth allowed between the first and the last fifth of the samples. Allocators keep a varying number of pages; a leak
of 4 KB a call exceeds this after some 10 000 calls, one of 100 KB after some 400."""
_SAMPLES = 25
_DOCUMENTS = 40
_DOCUMENTS_PER_CALL = (1, 3, 8, 5)
_LONGEST = 128
_STATUS = Path("/proc/self/status")


def resident_mebibytes() -> float | None:
    """Resident memory of this process; None where the system has no /proc."""
    try:
        with _STATUS.open(encoding="ascii") as lines:
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return None


def check_memory(
    subject: Subject, precision: Precision, calls: int, *, progress: Callable[[str], None] = lambda _: None
) -> CheckResult:
    """Make many calls of changing sizes and compare memory at the end with memory at the beginning.

    Args:
        subject: what is checked.
        precision: of the graph.
        calls: how many calls.
        progress: called with each step as it begins.

    Raises:
        CrossrankError: the engine failed.
    """
    query, documents = subject.texts.query, subject.texts.mixed(_DOCUMENTS, longest=_LONGEST)
    every = max(1, calls // _SAMPLES)
    host: list[float] = []
    device: list[float] = []
    with subject.engine(precision) as engine:
        engine.score(query, documents)
        # The same calls recur every _DOCUMENTS calls; memory that the first cycle allocates once and keeps is no leak.
        for call in range(-_DOCUMENTS, calls):
            first = 7 * call % _DOCUMENTS
            count = _DOCUMENTS_PER_CALL[call % len(_DOCUMENTS_PER_CALL)]
            engine.score(query, [documents[(first + index) % _DOCUMENTS] for index in range(count)])
            if call >= 0 and call % every == every - 1:
                progress(f"memory: call {call + 1} of {calls}")
                _append_known(host, resident_mebibytes())
                if subject.provider == "cuda":
                    _append_known(device, used_mebibytes(subject.device))
    figures: dict[str, Any] = {"calls": calls, "allowed_mib": ALLOWED_MIB, "host_mib": host, "device_mib": device}
    measured = {name: samples for name, samples in (("host", host), ("device", device)) if samples}
    if measured and calls == 1:
        return CheckResult(
            NAME, None, "1 call: nothing to compare it with; two calls or more expected", figures, precision
        )
    growths = figures["growth_mib"] = {name: growth(samples) for name, samples in measured.items()}
    if not growths:
        return CheckResult(NAME, None, "neither /proc nor nvidia-smi reports memory here", figures, precision)
    detail = ", ".join(f"{name} {value:+.1f} MiB" for name, value in growths.items())
    detail = f"{calls} calls: {detail}; {ALLOWED_MIB:g} allowed"
    if subject.provider == "cuda" and not device:
        detail += "; nvidia-smi does not report the device's memory"
    return CheckResult(NAME, max(growths.values()) <= ALLOWED_MIB, detail, figures, precision)


def growth(samples: Sequence[float]) -> float:
    """Median of the last fifth of the samples minus that of the first fifth."""
    fifth = max(1, len(samples) // 5)
    return statistics.median(samples[-fifth:]) - statistics.median(samples[:fifth])


def _append_known(samples: list[float], value: float | None) -> None:
    if value is not None:
        samples.append(value)
