"""What is held at a time does not depend on the number of rows; blocks overlap; an interrupt ends soon."""

import threading
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_jobs import StubScorer, make_rows, run_job, write_rows

from crossrank import Reranker
from crossrank.bulk import blocks, finishing, scoring_job
from crossrank.bulk.pair_scorer import RerankerScorer
from crossrank.bulk.work_file import WorkFile


class Held:
    """Counts how many of the things that a generator gives are alive."""

    def __init__(self):
        self.alive = weakref.WeakSet()
        self.most = self.all = 0

    def watching(self, generator):
        def watched(*arguments, **options):
            for thing in generator(*arguments, **options):
                self.alive.add(thing)
                self.all += 1
                self.most = max(self.most, len(self.alive))
                yield thing
                del thing

        return watched


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_as_many_blocks_and_rows_are_held_for_many_rows_as_for_few(tmp_path, monkeypatch, small_blocks, form):
    monkeypatch.setattr("crossrank.bulk.blocks.Block.__hash__", object.__hash__, raising=False)
    monkeypatch.setattr("crossrank.bulk.rows.Rows.__hash__", object.__hash__, raising=False)
    most = []
    for count in (300, 1500):
        held_blocks, held_rows = Held(), Held()
        with monkeypatch.context() as patch:
            patch.setattr(scoring_job, "read_blocks", held_blocks.watching(blocks.read_blocks))
            for module in (blocks, finishing):
                patch.setattr(module, "read_rows", held_rows.watching(module.read_rows))
            run_job(write_rows(tmp_path / f"{count}.{form}", make_rows(count)), tmp_path / f"out{count}.{form}")
        assert held_blocks.all == count // 10
        assert held_rows.all >= 2 * count // 64
        most.append((held_blocks.most, held_rows.most))
    assert most[0] == most[1]
    assert most[1][0] <= scoring_job.BLOCKS_AT_ONCE + 2
    assert most[1][1] <= 2


def test_a_row_group_is_not_read_at_once(tmp_path):
    rng = np.random.default_rng(0)
    texts = pa.array(["".join(map(chr, row)) for row in rng.integers(97, 123, (20_000, 400))])
    pq.write_table(pa.table({"query": texts, "document": texts}), tmp_path / "a.parquet", row_group_size=20_000)
    before = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(before)
    pa.set_memory_pool(counted)
    try:
        run_job(tmp_path / "a.parquet", tmp_path / "out.csv")
    finally:
        pa.set_memory_pool(before)
    assert counted.max_memory() < texts.nbytes  # of two such columns


def test_row_groups_of_the_output_have_a_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr("crossrank.bulk.output._GROUP_ROWS", 128)
    run_job(write_rows(tmp_path / "a.jsonl", make_rows(400)), tmp_path / "out.parquet")
    metadata = pq.ParquetFile(tmp_path / "out.parquet").metadata
    assert [metadata.row_group(index).num_rows for index in range(4)] == [128, 128, 128, 16]


def test_a_block_is_scored_while_the_one_before_is(tmp_path, small_blocks):
    both = threading.Barrier(scoring_job.BLOCKS_AT_ONCE)

    class Waits(StubScorer):
        def score(self, pairs):
            both.wait(timeout=60)
            return super().score(pairs)

    run_job(write_rows(tmp_path / "a.jsonl", make_rows(40)), tmp_path / "out.jsonl", scorer=Waits())


def test_an_interrupt_cancels_the_blocks_in_progress_and_keeps_those_before(tmp_path, small_blocks, monkeypatch):
    class Endless(StubScorer):
        def score(self, pairs):
            if pairs[0][1] != "text 0":
                assert self.cancelled.wait(timeout=60)
            return super().score(pairs)

    keep = WorkFile.keep_block
    monkeypatch.setattr(WorkFile, "keep_block", lambda *given, **more: interrupted_after(keep, *given, **more))
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(100))
    scorer = Endless()
    with pytest.raises(KeyboardInterrupt):
        run_job(pairs, tmp_path / "out.jsonl", scorer=scorer)
    assert scorer.cancelled.is_set()
    monkeypatch.setattr(WorkFile, "keep_block", keep)
    assert run_job(pairs, tmp_path / "out.jsonl").resumed == 10


def interrupted_after(keep, *given, **more):
    keep(*given, **more)
    raise KeyboardInterrupt


def test_calls_of_the_engine_end_when_they_are_cancelled():
    with Reranker("default-small", threads=1) as reranker:
        scorer = RerankerScorer(reranker)
        ended = []

        def score():
            try:
                scorer.score([("query", f"{'long ' * 400}{index}") for index in range(400)])
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=score)
        thread.start()
        while not reranker.stats().runs:
            thread.join(0.01)
        while thread.is_alive():
            scorer.cancel()
            thread.join(0.05)
        assert len(ended) == 1
        assert type(ended[0]).__name__ == "CancelledError"
        assert reranker.stats().runs < 200
        assert len(reranker.score("still", ["alive"])) == 1
