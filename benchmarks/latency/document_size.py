"""What the size of one document costs a call that reads its first tokens: `python -m` this module.

Sizes take turns, so that what else the machine does meets all of them, and no document is ranked twice. Memory is the
kernel's peak of a call above what the process held before it, the document included (Linux).
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from pathlib import Path
from typing import NamedTuple

SIZES = (10_000, 1_000_000, 16_000_000)
TEXTS = {
    "words": "the river heats cold water in winter ",
    "base64, lines of 76 characters": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\n",
    "ideographs without spaces": "\u6cb3\u6c34\u5728\u51ac\u5929\u5f88\u51b7",
}
_ROUNDS = 25
_QUERY = "what heats the water"


class Call(NamedTuple):
    """What one call took: seconds, and megabytes at its peak."""

    seconds: float
    megabytes: float


def measure(text: str) -> dict[int, list[Call]]:
    """Rank documents of every size in turn.

    Args:
        text: repeated to make a document.
    """
    from crossrank import Reranker

    calls: dict[int, list[Call]] = {size: [] for size in SIZES}
    with Reranker() as reranker:
        reranker.warmup()
        for number in range(_ROUNDS):
            for size in SIZES:
                document = f"{number} " + text * (size // len(text))
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is now what is held
                held, started = _megabytes("VmRSS"), time.perf_counter()
                reranker.rank(_QUERY, [document])
                calls[size].append(Call(time.perf_counter() - started, _megabytes("VmHWM") - held))
    return calls


def _megabytes(name: str) -> float:
    """A figure of proc(5)'s status file."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(name))


def main() -> None:
    """Print a table."""
    print("| document | characters | median, ms | to the smallest, median of the turns | memory at most, MB |")
    print("|---|---:|---:|---:|---:|")
    for name, text in TEXTS.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            calls = pool.apply(measure, (text,))
        for size, own in calls.items():
            median = statistics.median(call.seconds for call in own) * 1000
            pairs = zip(own, calls[SIZES[0]], strict=True)
            ratio = statistics.median(call.seconds / smallest.seconds for call, smallest in pairs)
            peak = max(call.megabytes for call in own)
            print(f"| {name} | {size:,} | {median:.1f} | {ratio:.2f} | {peak:.1f} |")


if __name__ == "__main__":
    main()
