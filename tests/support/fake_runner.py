"""A runner without onnxruntime: outputs computed from the tokens, with time and faults that the test chooses."""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np

from crossrank.engine.plan.batch_kinds import KINDS
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.runtime.runner import RunResult
from crossrank.engine.schedule.admission import AdmittedCall
from crossrank.engine.schedule.request import Terms
from crossrank.engine.schedule.scheduler import Scheduler
from crossrank.engine.text.encoded import EncodedDocuments, EncodedPairs, EncodedQuery, TokenArrays

COST = CostModel(run=1e-4, row=1e-6, token=1e-4, token_squared=1e-9)
"""About a millisecond for ten tokens."""
WAIT = 30
"""Seconds after which a test stops waiting for another thread."""


class FakeRunner:
    """Runs that a test releases one by one.

    Attributes:
        workers: runs at once.
        ran: first tokens of the rows of each run that was let go, in order of their start.
        gate: every run takes one permit; `open_gate` gives as many as anybody wants.
        on_run: called in the worker's thread for each run, before its outputs; may raise.
    """

    labels = 1

    def __init__(self, workers=2, *, gated=False, on_run=None):
        self.workers = self.processors = workers
        self.ran = []
        self.all_cores = []
        self.on_run = on_run
        self.started = threading.Semaphore(0)
        self.gated = gated
        self.gate = threading.Semaphore(0)
        self._lock = threading.Lock()

    def run(self, arrays):
        return self._run(arrays, all_cores=False)

    @property
    def run_on_all_cores(self):
        return partial(self._run, all_cores=True) if self.workers > 1 else None

    def outputs(self, arrays):
        """What a run gives."""
        return outputs_of(arrays)

    def _run(self, arrays, *, all_cores):
        began = time.perf_counter()
        with self._lock:
            self.ran.append(arrays.input_ids[:, 0].tolist())
            self.all_cores.append(all_cores)
        self.started.release()
        if self.gated:
            assert self.gate.acquire(timeout=WAIT)
        if self.on_run is not None:
            self.on_run(arrays)
        outputs = self.outputs(arrays)
        return RunResult(outputs, time.perf_counter() - began)

    def wait_for_runs(self, count):
        """Until so many more runs have started."""
        for _ in range(count):
            assert self.started.acquire(timeout=WAIT)

    def let_go(self, count=1):
        self.gate.release(count)

    def open_gate(self):
        self.gated = False
        self.gate.release(10_000)

    def load_all(self):
        pass

    def close(self):
        pass

    def leak(self):
        pass


def outputs_of(arrays):
    """A score that depends on every token of a row, but not on other rows or on padding."""
    weights = np.arange(1, arrays.input_ids.shape[1] + 1)
    totals = (arrays.input_ids * arrays.attention_mask * weights).sum(axis=1)
    return (totals % 9973 / 100).astype(np.float32)[:, None]


class PlainEncoder:
    """Assembles a pair as its document's tokens alone."""

    max_length = 512

    def assemble(self, pairs, indices, length):
        ids = np.zeros((len(indices), length), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, index in enumerate(indices):
            tokens = pairs.documents.ids[pairs.documents.offsets[index] : pairs.documents.offsets[index + 1]]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return TokenArrays(ids, mask, np.zeros_like(ids))


def pairs_of(lengths, first=1):
    """Pairs of the given lengths whose first token numbers them, from `first` on."""
    lengths = np.asarray(lengths, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.ones(offsets[-1], dtype=np.int32)
    ids[offsets[:-1]] = np.arange(first, first + len(lengths))
    query = EncodedQuery(np.empty(0, dtype=np.int32), truncated=False)
    return EncodedPairs(
        (query,),
        np.zeros(len(lengths), dtype=np.int64),
        EncodedDocuments(ids, offsets, lengths),
        offsets[:-1],
        lengths,
        np.zeros(len(lengths), dtype=np.bool_),
    )


def alone(pairs):
    """What `FakeRunner` gives each pair, one by one; float32 (n, 1)."""
    runs = [
        outputs_of(PlainEncoder().assemble(pairs, [index], int(length))) for index, length in enumerate(pairs.lengths)
    ]
    return np.concatenate(runs) if runs else np.empty((0, 1), dtype=np.float32)


def make_scheduler(runner, *, batching="single", max_batch_tokens=4096, **options):
    return Scheduler(runner, PlainEncoder(), kind=KINDS[batching](COST, max_batch_tokens), **options)


def submit(scheduler, pairs, *, arrival=None, **terms):
    """Submit pairs as one call; returns the future."""
    own = Terms(arrival=scheduler.clock() if arrival is None else arrival, **terms)
    with AdmittedCall(scheduler, int(pairs.lengths.sum()), terms=own) as call:
        return call.submit(pairs, own)


def scores(future):
    """All outputs of a request, in time."""
    outcome = future.result(WAIT)
    assert outcome.scored.all()
    return outcome.outputs


def until(condition):
    """Wait until a condition becomes true in another thread."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
