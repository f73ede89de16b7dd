"""What a loaded model costs while nothing is asked of it, and what a large call holds: in processes of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fresh_python import run_python

IDLE = """
import time
from crossrank import Reranker

with Reranker() as reranker:
    reranker.warmup()
    reranker.score("query", ["one document"])            # threads inside operators, which wait actively for a moment
    reranker.score("query", ["one document"] * 3 + ["another one"] * 5)
    time.sleep(0.5)
    before = time.process_time()
    time.sleep(1.0)
    print(time.process_time() - before)
"""

MEMORY = """
import json, gc
from crossrank import Reranker

def resident(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def peak_of(reranker, documents):
    gc.collect()
    with open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")                                # the peak so far is forgotten
    reranker.score("how to bound the memory of a call", documents)
    return resident("VmHWM")

def documents(count):
    return [f"{place} " + "word " * (10 + 37 * place % 50) for place in range(count)]

with Reranker() as reranker:
    reranker.warmup()
    loaded = resident("VmRSS")
    small, large = documents(100), documents(1000)
    tokens = sum(len(text.split()) + 15 for text in large)
    peak_of(reranker, small)
    peaks = [peak_of(reranker, small) - loaded, peak_of(reranker, large) - loaded]
    print(json.dumps({"tokens": tokens, "peaks": peaks, "after": resident("VmRSS") - loaded}))
"""

SLACK = 8 * 2**20
"""What the allocator and Python keep in pages of their own."""


def test_a_loaded_model_takes_no_processor_time_while_idle():
    assert float(run_python(IDLE)) < 0.05


@pytest.mark.skipif(sys.platform != "linux" or not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
def test_a_large_call_holds_two_hundred_bytes_a_token_more_than_a_small_one():
    found = json.loads(run_python(MEMORY))
    small, large = found["peaks"]
    assert large - small <= 200 * found["tokens"] + SLACK
    assert found["after"] <= large
