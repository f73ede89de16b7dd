"""`crossrank score`: files of pairs to a file of scores."""

import json
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("pyarrow")

from crossrank import Reranker

PAIRS = [
    {"id": 1, "query": "who reads", "document": "every reader reads by hand"},
    {"id": 2, "query": "who reads", "document": "the river heats cold water"},
    {"id": 3, "query": "bread in winter", "document": "bread " * 600},
]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS), encoding="utf-8")
    return path


@pytest.fixture
def score(crossrank, tmp_path, pairs):
    """Runs `crossrank score` with the small model, on the pairs unless others are given."""

    def run(*arguments, given=pairs, out="out.jsonl"):
        return crossrank("score", "--pairs", given, "--out", tmp_path / out, "-m", "default-small", *arguments)

    return run


def scored(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_get_the_scores_of_the_library_and_a_summary_goes_to_standard_error(score, tmp_path):
    result = score("--keep", "id, document")
    assert (result.exit_code, result.stdout) == (0, "")
    for told in ("3 rows in ", "3 scored in ", "pairs/s by default-small int8 on cpu", "1 document cut to the model's"):
        assert told in result.stderr
    with Reranker("default-small") as reranker, pytest.warns(UserWarning, match="cut"):
        expected = reranker.score_pairs([(row["query"], row["document"]) for row in PAIRS])
    found = scored(tmp_path / "out.jsonl")
    assert [list(row) for row in found] == [["id", "document", "score"]] * 3
    assert [row["score"] for row in found] == [float(str(value)) for value in expected]


def test_the_same_command_again_says_that_it_is_finished(score, tmp_path):
    score()
    again = score()
    assert again.exit_code == 0
    assert again.stderr == f"{tmp_path / 'out.jsonl'} is finished already: 3 rows of this very job\n"
    other = score("--max-length", 16)
    assert other.exit_code == 1
    assert "--overwrite" in other.stderr
    assert score("--max-length", 16, "--overwrite").exit_code == 0


def test_options_reach_the_reranker_and_the_files(score, tmp_path):
    (tmp_path / "raw.tsv").write_text('7\twho "\tbread\n8\t\t\n', encoding="utf-8")
    result = score(
        "--no-quotes", "--header", "n,frage,text", "--query-column", "frage", "--document-column", "text",
        "--score-column", "wert", "--activation", "sigmoid", "--keep", "n", "--threads", 1,
        given=tmp_path / "raw.tsv",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    found = scored(tmp_path / "out.jsonl")
    assert [row["n"] for row in found] == ["7", "8"]
    assert all(0 < row["wert"] < 1 for row in found)


def test_mistakes_are_told_by_file_and_line(score, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"query": "q", "document": "d"}\n{"query": "q"}\n', encoding="utf-8")
    refused = score(given=tmp_path / "bad.jsonl")
    assert refused.exit_code == 2
    assert "bad.jsonl, line 2: 'document' is missing" in refused.stderr
    empty = score("--on-error", "null", given=tmp_path / "bad.jsonl")
    assert "1 row without a score" in empty.stderr
    assert scored(tmp_path / "out.jsonl")[1] == {"query": "q", "score": None}
    again = score("--on-error", "null", given=tmp_path / "bad.jsonl")
    assert again.stderr.endswith("is finished already: 2 rows of this very job; 1 row without a score\n")
    assert score(given=tmp_path / "*.parquet").exit_code == 2


def test_ctrl_c_leaves_what_was_scored_and_says_how_to_go_on(tmp_path):
    rows = [row | {"document": f"{row['document']} {index}"} for index in range(1500) for row in PAIRS[:2]]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    # A shell's background jobs ignore interrupts, and pass that on.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program += "; from crossrank.cli import main; main()"
    command = [sys.executable, "-c", program, "score", "-m", "default-small"]
    command += ["--pairs", str(tmp_path / "many.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    work = tmp_path / "out.jsonl.scoring"
    until = time.monotonic() + 120
    while not (work.exists() and work.stat().st_size > 16384) and time.monotonic() < until:
        time.sleep(0.005)  # until the first block is kept
    child.send_signal(signal.SIGINT)
    told = child.communicate(timeout=120)[1]
    assert child.returncode == 130
    assert "interrupted while scoring, at row " in told
    assert "of 3000; the same command goes on from there" in told
    assert not (tmp_path / "out.jsonl").exists()
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "1024 of them scored earlier" in again.stderr or "2048 of them scored earlier" in again.stderr
    assert len(scored(tmp_path / "out.jsonl")) == 3000
