"""A job: files of pairs, a model, an output. It begins, or goes on where a process before it ended."""

from __future__ import annotations

import errno
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.bulk.blocks import read_blocks
from crossrank.bulk.checking import changed_while_read, check_files
from crossrank.bulk.finishing import put_in_place, write_partial, write_record
from crossrank.bulk.job import differences, machine, scored_texts
from crossrank.bulk.output import Output
from crossrank.bulk.progress import Progress, Summary
from crossrank.bulk.work_file import WorkFile
from crossrank.errors import InferenceError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from crossrank.bulk.blocks import Block
    from crossrank.bulk.checking import CheckedFile, OnError
    from crossrank.bulk.finishing import OutputFiles
    from crossrank.bulk.layout import Layout
    from crossrank.bulk.pair_files import PairFile
    from crossrank.bulk.pair_scorer import PairScorer, PairScores
    from crossrank.bulk.progress import Step

BLOCKS_AT_ONCE = 2
"""Blocks that are scored at a time: one is encoded while the other runs. One more is read and waits."""

_CANCEL_AGAIN = 0.05
"""Seconds after which a call that was encoding is cancelled again."""
_RECORD_VERSION = 1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ScoringJob:
    """One job, for one process."""

    def __init__(
        self,
        files: Sequence[PairFile],
        output_files: OutputFiles,
        out: PairFile,
        layout: Layout,
        *,
        on_error: OnError,
        progress: Callable[[Progress], None],
    ) -> None:
        """Nothing is read yet.

        Args:
            files: of pairs.
            output_files: of the output and of what is kept beside it.
            out: the output with its format.
            layout: of the columns.
            on_error: what to do with rows that have no score.
            progress: is told how far it has come.
        """
        self._files, self._output_files, self._layout = files, output_files, layout
        self._out, self._output = out, Output(out, layout)
        self._on_error, self._progress = on_error, progress

    def run(self, scorer: PairScorer, *, overwrite: bool, other_machine: bool) -> Summary:
        """Do all that is left to do.

        Args:
            scorer: of the pairs.
            overwrite: whether an output that is there may be replaced.
            other_machine: whether scores of another machine or other versions may stand beside this one's.

        Raises:
            InvalidInputError: the files hold what cannot be scored or written.
            OutputError: the output cannot be written, or what is kept beside it belongs to another job.
            InferenceError: a row has no score, also one that an earlier process left so, and `on_error` is 'fail'.
            CrossrankError: what the scorer raises.
        """
        with WorkFile(self._output_files.work) as work:
            try:
                return self._run(work, scorer, overwrite=overwrite, other_machine=other_machine)
            except BaseException:
                if work.fact("job") is None:
                    work.remove()  # nothing was begun
                raise

    def _run(self, work: WorkFile, scorer: PairScorer, *, overwrite: bool, other_machine: bool) -> Summary:
        self._refuse_other_output(work, overwrite=overwrite)
        checked, schema = check_files(
            self._files, self._layout, self._output, self._on_error, lambda done: self._tell("checking", done, None)
        )
        job = {"texts": scored_texts(checked, self._layout), "model": scorer.model()}
        here = machine(scorer.devices())
        record = {"version": _RECORD_VERSION, "job": job, "columns": self._columns(), "machines": [here]}
        kept_job = work.fact("job")
        if kept_job is not None:
            self._refuse_other_job(work, kept_job, job)
        before = self._output_files.read_record()
        if self._same(before, record) and self._output_files.is_output(before.get("output")):
            self._refuse_unscored(before["counts"]["unscored"], self._output_files.out)
            self._clear(work)
            return self._summary(before["counts"], resumed=before["counts"]["rows"], finished_before=True)
        if kept_job is not None:
            self._compare_machines(work, here, other_machine=other_machine)
        if not self._output_files.is_output(work.fact("output")):
            self._refuse_existing(overwrite=overwrite)
        if kept_job is None:
            work.keep_facts(job=job, machines=[here])
        return self._finish(work, scorer, checked, schema, record)

    def _finish(
        self,
        work: WorkFile,
        scorer: PairScorer,
        checked: Sequence[CheckedFile],
        schema: pa.Schema | None,
        record: dict[str, Any],
    ) -> Summary:
        total = sum(one.rows for one in checked)
        started, resumed = time.perf_counter(), work.counts()
        self._refuse_unscored(resumed.unscored, work.path)
        self._score(work, scorer, resumed.rows, checked)
        seconds = time.perf_counter() - started
        counts = work.counts()
        # The columns may be others than those of the process that wrote it.
        written = self._output_files.is_output(work.fact("output")) and work.fact("columns") == record["columns"]
        if not written:
            with self._nothing_half():
                write_partial(
                    self._output_files.partial,
                    self._output,
                    self._layout,
                    checked,
                    schema,
                    work.scores(),
                    lambda done: self._tell("writing", done, total),
                )
            put_in_place(self._output_files, work, record["columns"])
        record |= {
            "machines": work.fact("machines"),
            "inputs": [str(one.file.path) for one in checked],
            "counts": counts._asdict(),
            "output": work.fact("output"),
        }
        with self._nothing_half():
            write_record(self._output_files, record)
        self._clear(work)
        return self._summary(counts._asdict(), resumed=resumed.rows, finished_before=False, seconds=seconds)

    def _score(self, work: WorkFile, scorer: PairScorer, start: int, checked: Sequence[CheckedFile]) -> None:
        """Score the blocks from a row on and keep them in their order."""
        total = sum(one.rows for one in checked)
        files = {one.file: one for one in checked}
        self._tell("scoring", start, total)
        pool = ThreadPoolExecutor(BLOCKS_AT_ONCE, thread_name_prefix="crossrank-bulk")
        waiting: deque[tuple[Block, Future[PairScores]]] = deque()
        done = start
        try:
            for block in read_blocks(self._files, self._layout, start) if start < total else ():
                waiting.append((block, pool.submit(scorer.score, block.pairs)))
                if len(waiting) > BLOCKS_AT_ONCE:
                    done += self._keep(work, files, *waiting[0])
                    waiting.popleft()
                    self._tell("scoring", done, total)
            while waiting:
                done += self._keep(work, files, *waiting[0])
                waiting.popleft()
                self._tell("scoring", done, total)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            futures = [future for _, future in waiting]
            while futures := [future for future in futures if not future.done()]:
                scorer.cancel()
                wait(futures, _CANCEL_AGAIN)
        if done != total:
            raise changed_while_read()

    def _keep(
        self, work: WorkFile, files: Mapping[PairFile, CheckedFile], block: Block, future: Future[PairScores]
    ) -> int:
        found = future.result()
        # Otherwise texts that were in a file only for a while leave scores, which a next process takes for those of the
        # texts that were there before and are there again.
        for file in dict.fromkeys(file for file, _ in block.places):
            files[file].check_unchanged()
        if found.failed and self._on_error == "fail":
            first = min(found.failed)
            others = f" (and {len(found.failed) - 1} more of its block)" if len(found.failed) > 1 else ""
            raise InferenceError(
                f"{block.place(block.scored[first])} has no score: {found.failed[first]}{others}. What was scored is "
                "kept; go on with such scores left empty (on_error='null', --on-error null)"
            )
        scores = np.full(len(block), np.nan, dtype=np.float32)
        scores[block.scored] = found.scores
        work.keep_block(block.first, scores, truncated=found.truncated, tokens=found.tokens)
        return len(block)

    def _refuse_other_job(self, work: WorkFile, kept: dict[str, Any], job: dict[str, Any]) -> None:
        wrong = differences(kept, job)
        if wrong:
            raise OutputError(
                f"{work.path} holds scores of another job ({'; '.join(wrong)}); give what was given then, or "
                "remove the file to begin anew"
            )

    def _compare_machines(self, work: WorkFile, here: dict[str, Any], *, other_machine: bool) -> None:
        """Refuse to go on with the scores of another machine."""
        machines = work.fact("machines")
        if here not in machines:
            if not other_machine:
                raise OutputError(
                    f"{work.path} was begun elsewhere ({'; '.join(differences(machines[-1], here))}), where scores may "
                    "differ in their last digits, int8 scores by more; go on there, remove the file to begin anew, or "
                    "take both (other_machine=True, --other-machine)"
                )
            work.keep_facts(machines=[*machines, here])

    def _refuse_other_output(self, work: WorkFile, *, overwrite: bool) -> None:
        """Refuse at once, before anything is read, an output that no job here can have written."""
        before = self._output_files.read_record()
        if work.fact("job") is None and not self._output_files.is_output(before.get("output")):
            self._refuse_existing(overwrite=overwrite)

    def _refuse_existing(self, *, overwrite: bool) -> None:
        out = self._output_files.out
        if out.is_dir():
            raise OutputError(f"{out} is a folder: a name for a file expected")
        if out.exists() and not overwrite:
            raise OutputError(
                f"{out} is there already and is not the finished output of this very job; give another name, or "
                "replace it (overwrite=True, --overwrite)"
            )

    def _refuse_unscored(self, unscored: int, path: Path) -> None:
        if unscored and self._on_error == "fail":
            raise InferenceError(
                f"{path} has rows without a score ({unscored}); leave them empty (on_error='null', --on-error null), "
                "or remove the file to begin anew"
            )

    def _clear(self, work: WorkFile) -> None:
        """Remove what only an unfinished job needs, the work file last: while it is there, a next process does this."""
        self._output_files.partial.unlink(missing_ok=True)
        work.remove()

    def _same(self, before: dict[str, Any], record: dict[str, Any]) -> bool:
        """Whether a record is of this job; on whichever machine, for with nothing left to score nothing is mixed."""
        return all(before.get(key) == record[key] for key in ("version", "job", "columns"))

    def _columns(self) -> dict[str, Any]:
        """How the output is written, for JSON."""
        keep = self._layout.keep
        return {
            "form": self._out.form,
            "compression": self._out.compression,
            "score": self._layout.score,
            "keep": None if keep is None else list(keep),
            "quotes": self._layout.quotes,
        }

    def _summary(self, counts: dict[str, int], *, resumed: int, finished_before: bool, seconds: float = 0.0) -> Summary:
        return Summary(
            out=str(self._output_files.out), **counts, resumed=resumed, finished_before=finished_before, seconds=seconds
        )

    def _tell(self, step: Step, done: int, total: int | None) -> None:
        self._progress(Progress(step, done, total))

    @contextmanager
    def _nothing_half(self) -> Iterator[None]:
        """Remove what was written of a file that cannot be finished, and say so of a full disk or a value."""
        import pyarrow as pa

        try:
            yield
        except BaseException as error:
            self._output_files.partial.unlink(missing_ok=True)
            if isinstance(error, (pa.ArrowException, UnicodeEncodeError)):
                raise OutputError(
                    f"{self._output_files.out} cannot be written ({error}); all scores are kept: give the same command "
                    "again, with the column left out (keep=, --keep)"
                ) from error
            if not isinstance(error, OSError) or error.errno not in _FULL:
                raise
            raise OutputError(
                f"{self._output_files.out} cannot be written ({error}); all scores are kept: make room and give the "
                "same command again"
            ) from error
