"""The threads that run batches."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.runtime.runner import RunResult
from crossrank.engine.runtime.session import NoNumberError
from crossrank.engine.schedule.queue_commands import RunFinished, WorkerDied
from crossrank.engine.schedule.statistics import BatchObserved
from crossrank.engine.text.encoded import TokenArrays

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossrank.engine.runtime.runner import Runner
    from crossrank.engine.schedule.queue_commands import Command
    from crossrank.engine.schedule.request import Run
    from crossrank.engine.schedule.statistics import BatchObserver
    from crossrank.engine.text.encoding import PairEncoder


class Workers:
    """Worker threads, as many as runs may go on at once, that take runs from one inbox.

    They hold the runner and the encoder, never the reranker, so that a reranker that is dropped can end them.
    """

    def __init__(self, runner: Runner, encoder: PairEncoder, tell: Callable[[Command], None]) -> None:
        """Prepare; no thread is started.

        Args:
            runner: runs the batches.
            encoder: lays out their arrays.
            tell: takes what the workers report; called from their threads.
        """
        self.count = runner.workers
        self.processors = runner.processors
        self.observer: BatchObserver | None = None
        self._runner = runner
        self._encoder = encoder
        self._tell = tell
        self._inbox: SimpleQueue[Run | None] = SimpleQueue()
        self._threads: dict[int, threading.Thread] = {}

    def start(self) -> None:
        """Start all threads."""
        for worker in range(self.count):
            self._start_one(worker)

    def replace(self, worker: int) -> None:
        """Start a thread in place of one that died."""
        self._start_one(worker)

    def hand_out(self, run: Run) -> None:
        """Give a run to the first worker that is free."""
        self._inbox.put(run)

    def stop(self) -> None:
        """Let every thread end after the runs handed out before."""
        for _ in self._threads:
            self._inbox.put(None)

    def join(self) -> None:
        """Wait for the threads to end."""
        for thread in list(self._threads.values()):
            thread.join()

    def owns_this_thread(self) -> bool:
        """Whether a worker is calling, which an observer does: it cannot wait for itself."""
        return threading.current_thread() in self._threads.values()

    def alive(self) -> int:
        """How many threads live."""
        return sum(thread.is_alive() for thread in list(self._threads.values()))

    def _start_one(self, worker: int) -> None:
        # Daemons, so that an interpreter with work in flight is not held up; the scheduler ends them in good order
        # when the interpreter does.
        thread = threading.Thread(target=self._work, args=(worker,), name=f"crossrank-worker-{worker}", daemon=True)
        self._threads[worker] = thread
        thread.start()

    def _work(self, worker: int) -> None:
        # A run is held by the frames of one call only: this loop may wait for the next one for ever.
        while self._run_one(worker, self._inbox.get()):
            pass

    def _run_one(self, worker: int, run: Run | None) -> bool:
        """Run and report; returns whether the thread goes on."""
        if run is None:
            return False
        if all(part.request.done for part in run.parts):
            self._tell(RunFinished(run, None, None))
            return True
        started = time.perf_counter()
        try:
            arrays = assemble(self._encoder, run)
            on_all_cores = self._runner.run_on_all_cores if run.all_cores else None
            result = (on_all_cores or self._runner.run)(arrays)
        except NoNumberError as error:  # the other pairs of the run have their scores
            result = RunResult(error.logits, time.perf_counter() - started, typical=False)
            finished = RunFinished(run, result, error)
        except Exception as error:  # whatever it is, its callers wait for it
            finished = RunFinished(run, None, error)
        except BaseException as error:  # the thread must not go without a word
            self._tell(WorkerDied(worker, run, error))
            return False
        else:
            finished = RunFinished(run, result, None)
        self._tell(finished)
        if self.observer is not None:
            self._observe(finished, time.perf_counter() - started)
        return True

    def _observe(self, finished: RunFinished, seconds: float) -> None:
        run, observer = finished.run, self.observer
        observed = BatchObserved(
            pairs=run.rows,
            requests=len({part.request.number for part in run.parts}),
            length=run.length,
            tokens=run.tokens,
            seconds=seconds if finished.result is None else finished.result.seconds,
            predicted_seconds=run.seconds,
            all_cores=run.all_cores,
            error=None if finished.error is None else str(finished.error),
        )
        try:
            if observer is not None:
                observer(observed)
        except BaseException as raised:  # an observer must not harm what it watches, nor end its thread
            self.observer = None
            with contextlib.suppress(RuntimeWarning):  # where warnings are errors there is nobody here to take them
                warnings.warn(
                    f"the observer of batches raised {raised!r} and is not called again", RuntimeWarning, stacklevel=1
                )


def assemble(encoder: PairEncoder, run: Run) -> TokenArrays:
    """Lay out the rows of a run, part by part."""
    arrays = [encoder.assemble(part.request.pairs, part.indices, run.length) for part in run.parts]
    return arrays[0] if len(arrays) == 1 else TokenArrays(*(np.concatenate(rows) for rows in zip(*arrays, strict=True)))
