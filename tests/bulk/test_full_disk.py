"""A disk that is full leaves no half file and all that was scored."""

import errno
import resource
import signal

import pytest
from bulk_jobs import file_names, make_rows, read_scored, run_job, write_rows

from crossrank import OutputError


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv.gz"])
def test_a_full_disk_leaves_nothing_half_and_all_scores(tmp_path, monkeypatch, form):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(2000))
    out = tmp_path / f"out.{form}"

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("crossrank.bulk.finishing.flush", full)
        with pytest.raises(OutputError, match=r"No space left on device.*all scores are kept"):
            run_job(pairs, out)
    assert file_names(tmp_path) == {"a.jsonl", f"{out.name}.scoring"}
    assert run_job(pairs, out).resumed == 2000
    assert len(read_scored(out)) == 2000


def test_a_limit_on_the_size_of_files_is_told_as_a_full_disk_is(tmp_path, monkeypatch):
    rows = [row | {"long": "x" * 1000} for row in make_rows(200)]
    pairs = write_rows(tmp_path / "a.jsonl", rows)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(OutputError, match=r"all scores are kept: make room"):
            run_job(pairs, tmp_path / "out.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert file_names(tmp_path) == {"a.jsonl", "out.jsonl.scoring"}
    assert run_job(pairs, tmp_path / "out.jsonl").resumed == 200


def test_a_work_file_that_cannot_grow_keeps_what_it_has(tmp_path, small_blocks):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(5000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (24_576, limits[1]))
        with pytest.raises(OutputError, match=r"out\.jsonl\.scoring cannot"):
            run_job(pairs, tmp_path / "out.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert 0 < run_job(pairs, tmp_path / "out.jsonl").resumed < 5000
