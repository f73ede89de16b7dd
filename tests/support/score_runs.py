"""`crossrank score` in processes of their own, killed when so many rows are kept."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_CHILD = """
import sys
import crossrank.bulk.blocks as blocks
from crossrank.bulk.work_file import WorkFile

blocks.BLOCK_ROWS = int(sys.argv.pop(1))
keep = WorkFile.keep_block

def keep_and_tell(self, first, scores, **counts):
    keep(self, first, scores, **counts)
    print(first + len(scores), flush=True)

WorkFile.keep_block = keep_and_tell
from crossrank.cli import main
main()
"""
"""The command, which prints how many rows are kept after each block."""

_SENTENCES = (
    "river cold water reader bread winter virus immune cell stock price wing flow heat body memory music garden "
    "engine market train school letter court storm island copper glass forest harbor bridge café Zürich 東京"
)
WORDS = _SENTENCES.split()


@dataclass(frozen=True)
class ScoreRun:
    """How a process ended.

    Attributes:
        code: its exit code, negative for a signal.
        told: what it wrote to standard error.
        kept: rows that were kept when it ended or was killed.
        peak_mib: of its resident memory.
        seconds: it took.
    """

    code: int
    told: str
    kept: int
    peak_mib: float
    seconds: float

    @property
    def pairs_per_second(self) -> float:
        """As the command says."""
        return float(re.search(r"(\d+) pairs/s", self.told)[1])


def write_pairs(path: Path, count: int, *, words: tuple[int, int] = (6, 24), seed: int = 7) -> list[dict]:
    """Short pairs as JSON lines: twenty documents a query, no two alike, of so many words."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        if index % 20 == 0:
            query = " ".join(rng.choices(WORDS, k=rng.randint(2, 6)))
        document = " ".join(rng.choices(WORDS, k=rng.randint(*words)))
        rows.append({"id": index, "query": query, "document": f"{document} {index}."})
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return rows


def run_score(*arguments: object, block_rows: int = 1024, kill_at: int | None = None, delay: float = 0.0) -> ScoreRun:
    """Run the command; kill it so many seconds after so many rows are kept."""
    command = [sys.executable, "-c", _CHILD, str(block_rows), "score", *map(str, arguments)]
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    kept, killed = 0, False
    for line in child.stdout:
        kept = int(line)
        if kill_at is not None and kept >= kill_at and not killed:
            time.sleep(delay)
            os.kill(child.pid, signal.SIGKILL)
            killed = True
    told = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return ScoreRun(child.returncode, told, kept, usage.ru_maxrss / 1024, time.perf_counter() - started)
