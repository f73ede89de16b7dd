"""How many modules one `rank()` enters before onnxruntime runs: `python tests/support/trace_rank.py`.

Scores 13 documents with the embedded model on one thread, in a loaded reranker, and prints the crossrank modules that
are entered in any thread, the Python calls in them, and how often the caller's thread goes from one file to another.
"""

import sys
import threading
from itertools import pairwise
from pathlib import Path
from types import FrameType

import crossrank
from crossrank import Reranker

PACKAGE = Path(crossrank.__file__).parent
QUERY = "how do vaccines work"
DOCUMENTS = [f"Vaccines show the immune system a harmless piece of germ number {number}." for number in range(13)]


def trace() -> dict[str, int]:
    """Figures of one call."""
    entered: list[tuple[int, str]] = []
    recording = threading.Event()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(str(PACKAGE)) and recording.is_set():
            entered.append((threading.get_ident(), file))

    threading.setprofile(profile)  # of threads that start from here on: the queue's and the workers'
    sys.setprofile(profile)
    try:
        with Reranker(threads=1) as reranker:
            reranker.rank(QUERY, ["warm up"])
            recording.set()
            reranker.rank(QUERY, DOCUMENTS)
            recording.clear()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    callers = [file for thread, file in entered if thread == threading.get_ident()]
    return {
        "modules entered": len({file for _, file in entered}),
        "calls": len(entered),
        "threads": len({thread for thread, _ in entered}),
        "changes of file on the caller's thread": sum(one != other for one, other in pairwise(callers)),
    }


if __name__ == "__main__":
    for what, count in trace().items():
        print(f"{what}: {count}")
