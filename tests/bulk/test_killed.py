"""Killed by SIGKILL: at every step of keeping and writing, and in real runs of the command."""

import json
import os
import re
import shutil
import signal
import sqlite3
from itertools import count
from pathlib import Path

import pytest
from bulk_jobs import StubScorer, file_names, make_rows, read_scored, run_job, stub_score, write_rows
from score_runs import run_score, write_pairs

from crossrank import Reranker
from crossrank.bulk import Layout, finishing, score_files, scoring_job
from crossrank.bulk.output import Output
from crossrank.bulk.work_file import WorkFile
from crossrank.errors import OutputError

ROWS = 35


class Killed:
    """Counts the steps of a job in this process and kills it before or after one of them."""

    def __init__(self, monkeypatch, at):
        self.at, self.seen = at, 0
        for owner, name in (
            (WorkFile, "_open"),
            (WorkFile, "keep_block"),
            (WorkFile, "keep_facts"),
            (WorkFile, "remove"),
            (Output, "check_columns"),
            (finishing, "flush"),
            (finishing._Pieces, "take"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "write_text"),
        ):
            monkeypatch.setattr(owner, name, self.around(getattr(owner, name)))

    def around(self, step):
        def killing(*arguments, **options):
            self.count()
            result = step(*arguments, **options)
            self.count()
            return result

        return killing

    def count(self):
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen += 1


def killed_at(step, work):
    """Whether a child that does the work was killed at that step; else it finished."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with pytest.MonkeyPatch.context() as monkeypatch:
                Killed(monkeypatch, step)
                work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code != 0


@pytest.mark.parametrize(
    ("given", "out", "overwritten"), [("pairs.jsonl", "out.jsonl", False), ("pairs.parquet", "out.parquet", True)]
)
def test_a_kill_at_any_step_changes_no_byte_of_the_output(tmp_path, small_blocks, given, out, overwritten):
    pairs = write_rows(tmp_path / given, make_rows(ROWS))
    expected = tmp_path / "expected" / out
    expected.parent.mkdir()
    run_job(pairs, expected)
    step = 0
    while True:
        target = tmp_path / str(step) / out
        target.parent.mkdir()
        if overwritten:
            target.write_text("another file")
        options = {"overwrite": overwritten}
        if not killed_at(step, lambda target=target, options=options: run_job(pairs, target, **options)):
            break
        if target.exists():
            assert target.read_bytes() in ({b"another file"} if overwritten else set()) | {expected.read_bytes()}
        summary = run_job(pairs, target, **options)
        assert target.read_bytes() == expected.read_bytes()
        assert summary.rows == ROWS
        assert file_names(target.parent) == {out, f"{out}.job.json"}
        assert json.loads(Path(f"{target}.job.json").read_text())["counts"]["rows"] == ROWS
        step += 1
    assert step > 30  # before and after each
    assert target.read_bytes() == expected.read_bytes()


def test_killed_twice_while_going_on(tmp_path, small_blocks):
    pairs = write_rows(tmp_path / "pairs.csv", make_rows(ROWS))
    run_job(pairs, tmp_path / "expected.csv")
    for first in range(0, 40, 3):
        out = tmp_path / f"{first}.csv"
        assert killed_at(first, lambda out=out: run_job(pairs, out))
        # The later the first, the fewer steps are left.
        assert killed_at(20 - first // 2, lambda out=out: run_job(pairs, out))
        run_job(pairs, out)
        assert out.read_bytes() == (tmp_path / "expected.csv").read_bytes()


def test_what_was_kept_is_not_scored_again(tmp_path, small_blocks):
    pairs = write_rows(tmp_path / "pairs.jsonl", make_rows(ROWS))
    failing = StubScorer(fails={"text 25"})
    with pytest.raises(Exception, match=r"line 26 has no score: no number\. What was scored is kept"):
        run_job(pairs, tmp_path / "out.jsonl", scorer=failing)
    second = StubScorer()
    told = []
    summary = run_job(pairs, tmp_path / "out.jsonl", scorer=second, told=told)
    assert summary.resumed == 20
    assert sorted(pair for call in second.calls for pair in call) == sorted(
        (row["query"], row["document"]) for row in make_rows(ROWS)[20:]
    )
    assert [progress.done for progress in told if progress.step == "scoring"] == [20, 30, 35]
    assert {progress.total for progress in told if progress.step != "checking"} == {ROWS}
    assert read_scored(tmp_path / "out.jsonl") == [
        row | {"score": stub_score(row["query"], row["document"])} for row in make_rows(ROWS)
    ]


def test_a_finished_job_has_nothing_left_to_do(tmp_path):
    pairs = write_rows(tmp_path / "pairs.jsonl", make_rows(ROWS))
    out = tmp_path / "out.jsonl"
    first = run_job(pairs, out)
    before = out.stat()
    for overwrite in (False, True):
        scorer = StubScorer()
        again = run_job(pairs, out, scorer=scorer, overwrite=overwrite)
        assert again.finished_before
        assert not first.finished_before
        assert (again.rows, again.tokens, again.truncated) == (first.rows, first.tokens, first.truncated)
        assert scorer.calls == []
        assert out.stat().st_ino == before.st_ino
        assert file_names(tmp_path) == {"pairs.jsonl", "out.jsonl", "out.jsonl.job.json"}


@pytest.mark.parametrize("killed", [False, True])
def test_a_finished_job_is_finished_on_another_machine_too(tmp_path, monkeypatch, killed):
    pairs = write_rows(tmp_path / "pairs.jsonl", make_rows(ROWS))
    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        if killed:  # after the record was written and before the work file was removed
            patch.setattr(WorkFile, "remove", lambda work: None)
        run_job(pairs, out)
    assert (tmp_path / "out.jsonl.scoring").exists() == killed
    monkeypatch.setattr("crossrank.bulk.job._processor", lambda: "another processor")
    scorer = StubScorer()
    again = run_job(pairs, out, scorer=scorer)
    assert (again.finished_before, again.rows, scorer.calls) == (True, ROWS, [])
    assert file_names(tmp_path) == {"pairs.jsonl", "out.jsonl", "out.jsonl.job.json"}


def test_inputs_that_moved_are_still_the_same_job(tmp_path, small_blocks):
    pairs = write_rows(tmp_path / "pairs.jsonl", make_rows(ROWS))
    with pytest.raises(Exception, match="has no score"):
        run_job(pairs, tmp_path / "out.jsonl", scorer=StubScorer(fails={"text 25"}))
    pairs.rename(tmp_path / "moved.jsonl")
    assert run_job(tmp_path / "moved.jsonl", tmp_path / "out.jsonl").resumed == 20


def test_other_columns_may_be_carried_when_a_job_goes_on(tmp_path, small_blocks):
    pairs = write_rows(tmp_path / "pairs.jsonl", make_rows(ROWS))
    with pytest.raises(Exception, match="has no score"):
        run_job(pairs, tmp_path / "out.jsonl", scorer=StubScorer(fails={"text 25"}))
    assert run_job(pairs, tmp_path / "out.jsonl", layout=Layout(keep=("id",))).resumed == 20
    assert list(read_scored(tmp_path / "out.jsonl")[0]) == ["id", "score"]


@pytest.mark.parametrize("ended", ["write_record", "remove"])
@pytest.mark.parametrize("asked", [("id",), ("id", "document")])
def test_a_kill_while_other_columns_are_written_leaves_none_of_the_columns_before(tmp_path, monkeypatch, ended, asked):
    pairs = write_rows(tmp_path / "pairs.jsonl", make_rows(ROWS))
    expected = tmp_path / "expected.jsonl"
    run_job(pairs, expected, layout=Layout(keep=asked))
    first = tmp_path / "first"
    first.mkdir()
    with monkeypatch.context() as patch:
        # Nothing is missing but the record, or nothing at all but the end of the work file.
        patch.setattr(*((scoring_job, ended) if ended == "write_record" else (WorkFile, ended)), interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_job(pairs, first / "out.jsonl", layout=Layout(keep=("id", "document")))
    assert set(read_scored(first / "out.jsonl")[0]) == {"id", "document", "score"}
    for step in count():
        folder = tmp_path / str(step)
        shutil.copytree(first, folder)
        out = folder / "out.jsonl"
        killed_at(step, lambda out=out: run_job(pairs, out, layout=Layout(keep=("id",))))
        if not (folder / "out.jsonl.scoring").exists():
            break  # finished
        run_job(pairs, out, layout=Layout(keep=asked))
        assert out.read_bytes() == expected.read_bytes()
        assert json.loads((folder / "out.jsonl.job.json").read_text())["columns"]["keep"] == list(asked)
        assert file_names(folder) == {"out.jsonl", "out.jsonl.job.json"}
    assert step > 20
    assert set(read_scored(out)[0]) == {"id", "score"}


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_two_thousand_pairs_killed_three_times_are_those_of_an_undisturbed_run(tmp_path, tiny_artifact, precision):
    model = "default-small" if precision == "int8" else tiny_artifact
    rows = write_pairs(tmp_path / "pairs.jsonl", 2000)
    options = ("--pairs", tmp_path / "pairs.jsonl", "--out", tmp_path / "killed.jsonl")
    options = (*options, "--model", model, "--precision", precision)
    for kill_at in (200, 800, 1900):
        run = run_score(*options, block_rows=100, kill_at=kill_at, delay=0.01)
        assert run.code == -signal.SIGKILL, run.told
        assert run.kept >= kill_at
        assert not (tmp_path / "killed.jsonl").exists()
    last = run_score(*options, block_rows=100)
    assert last.code == 0, last.told
    assert int(re.search(r"(\d+) of them scored earlier", last.told)[1]) >= 1900
    with Reranker(model, precision=precision) as reranker:
        score_files(reranker, tmp_path / "pairs.jsonl", tmp_path / "whole.jsonl")
    one, other = ((tmp_path / f"{kind}.jsonl").read_bytes() for kind in ("whole", "killed"))
    killed = [json.loads(line) for line in other.splitlines()]
    scores = [row.pop("score") for row in killed]
    assert killed == rows
    if precision == "int8":
        assert one == other
    else:
        assert scores == pytest.approx([json.loads(line)["score"] for line in one.splitlines()], abs=1e-5, rel=0)


def test_a_second_process_at_the_same_output_is_refused_and_the_first_goes_on(tmp_path):
    pairs = write_rows(tmp_path / "pairs.jsonl", make_rows(ROWS))
    out = tmp_path / "out.jsonl"

    class Interrupted(StubScorer):
        def score(self, pairs):
            second = os.fork()
            if second == 0:
                try:
                    run_job(tmp_path / "pairs.jsonl", out)
                except OutputError as error:
                    os._exit(7 if "another process is scoring into this output" in str(error) else 8)
                os._exit(9)
            self.second = os.waitstatus_to_exitcode(os.waitpid(second, 0)[1])
            return super().score(pairs)

    scorer = Interrupted()
    assert run_job(pairs, out, scorer=scorer).rows == ROWS
    assert scorer.second == 7


def test_a_work_file_removed_by_the_process_before_is_not_written_to(tmp_path):
    path = tmp_path / "out.jsonl.scoring"
    first = WorkFile(path)
    waiting = sqlite3.connect(path, timeout=0, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        waiting.execute("SELECT * FROM facts")
    first.remove()
    with pytest.raises(sqlite3.OperationalError) as moved:
        waiting.execute("CREATE TABLE x (y)")
    assert moved.value.sqlite_errorname == "SQLITE_READONLY_DBMOVED"
    waiting.close()
    with WorkFile(path) as again:
        assert again.fact("job") is None
