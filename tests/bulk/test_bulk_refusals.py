"""What is refused: with the file and the line, before anything is scored where it can be known, and nothing half."""

import errno
import gzip
import json
import resource
import signal
import sqlite3
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_jobs import StubScorer, make_rows, read_scored, run_job, write_rows
from tiny_artifacts import with_instruction
from tokenizers import Tokenizer

from crossrank import InferenceError, InvalidInputError, MissingDependencyError, OutputError, Reranker
from crossrank.bulk import Layout, score_files
from crossrank.engine.runtime.session import GraphSession

ROWS = 35
PAIR = '{"query": "q", "document": "d"}\n'


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", PAIR + '{"query": "q"', "a.jsonl, line 2 is not JSON"),
        ("a.jsonl", PAIR + "[1]\n", "line 2 is a list: an object expected"),
        ("a.jsonl", PAIR + '{"query": "q", "document": null}\n', "line 2: 'document' is null, text expected"),
        ("a.jsonl", PAIR + "\n" + '{"document": "d"}\n', "line 3: 'query' is missing, text expected"),
        ("a.jsonl", '{"query": 7, "document": "d"}\n' * 8, "line 1: 'query' is of type int, .* and 3 more"),
        ("a.jsonl", PAIR + '{"query": "q", "document": "d", "n": NaN}', "line 2 is not JSON: NaN is no number"),
        ("a.jsonl", '{"query": "q", "document": "d", "n": 1e999}', "larger than a double"),
        ("a.jsonl", '{"query": "q", "document": "d", "score": 1}', "line 1 has a column 'score' already"),
        ("a.jsonl", PAIR + '{"query": "q", "document": "d", "query": "r"}', "line 2: .*'query' is there twice"),
        ("a.jsonl", '{"query": "q", "document": "d", "m": [{"a": 1, "a": 1}]}', "line 1: .*'a' is there twice"),
        ("a.jsonl", PAIR.encode() + b'{"query": "caf\xe9"}', "a.jsonl is not UTF-8"),
        ("a.jsonl", PAIR.encode("utf-16"), "a.jsonl is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(PAIR.encode() * 100)[:-9], "a.jsonl.gz cannot be read as gzip"),
        ("a.jsonl.gz", PAIR, "a.jsonl.gz cannot be read as gzip"),
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "query,text\n1,2\n", r"has no column 'document'; its columns are \['query', 'text'\]"),
        ("a.csv", "query,document,query\n", "a.csv: the column 'query' is there twice"),
        ("a.csv", "query,document\nq,d\nq,d,e\n", "line 3 has 3 values: 2 expected"),
        ("a.csv", 'query,document\n"q" x,d\n', "line 2: .*; .*--no-quotes|line 2: .*--no-quotes"),
        ("a.tsv", 'query\tdocument\n"who said\td\n', "--no-quotes"),
        ("a.csv", "query,document,score\nq,d,1\n", "has a column 'score' already"),
        ("a.parquet", "no parquet", "a.parquet cannot be read as parquet"),
        ("a.json", PAIR, "a.json: its name does not say its format"),
        ("a.parquet.gz", PAIR, "its name does not say its format"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused_before_anything_is_scored(tmp_path, name, content, message):
    pairs = tmp_path / name
    pairs.write_bytes(content.encode() if isinstance(content, str) else content)
    scorer = StubScorer()
    with pytest.raises(InvalidInputError, match=message):
        run_job(pairs, tmp_path / "out.jsonl", scorer=scorer)
    assert scorer.calls == []
    assert names(tmp_path) == {name}


@pytest.mark.parametrize(
    ("columns", "out", "message"),
    [
        ({"query": [1], "document": ["d"]}, "out.jsonl", "the column 'query' is int64: text expected"),
        ({"query": ["q"], "document": ["d"], "b": [b"x"]}, "out.jsonl", "jsonl has no values of type binary"),
        ({"query": ["q"], "document": ["d"], "b": [["x"]]}, "out.csv", "csv has no values of type list"),
        ({"query": ["q"], "document": ["d"], "b": [{"x": b""}]}, "out.jsonl", "the column 'b' has; write parquet"),
        ({"query": ["q", None], "document": ["d", "e"]}, "out.parquet", "row 2: 'query' is null"),
    ],
)
def test_parquet_columns_that_cannot_be_scored_or_written_are_refused(tmp_path, columns, out, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InvalidInputError, match=message):
        run_job(tmp_path / "a.parquet", tmp_path / out)
    assert names(tmp_path) == {"a.parquet"}


def test_parquet_with_a_damaged_page_is_refused(tmp_path):
    texts = [f"{index} {index * 7919 % 1000}" for index in range(5000)]
    pq.write_table(
        pa.table({"query": texts, "document": texts}),
        tmp_path / "a.parquet",
        write_page_checksum=True,
        compression=None,
    )
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"cannot be read as parquet"):
        run_job(tmp_path / "a.parquet", tmp_path / "out.jsonl")


def test_values_that_fit_no_column_are_refused_where_columns_are_written(tmp_path):
    rows = [{"query": "q", "document": "d", "n": value} for value in (1, "one")]
    for number, some in enumerate((rows, rows[:1] * 64 + rows[1:])):
        pairs = write_rows(tmp_path / f"{number}.jsonl", some)
        with pytest.raises(InvalidInputError, match=r"leave the column out"):
            run_job(pairs, tmp_path / "out.parquet")
        run_job(pairs, tmp_path / f"out{number}.parquet", layout=Layout(keep=("query",)))


BIG = 2**53 + 1


@pytest.mark.parametrize(
    ("out", "big", "fraction"),
    [
        ("out.csv", BIG, 1.5),
        ("out.parquet", BIG, 1.5),
        ("out.parquet", [BIG], [1.5]),
        ("out.parquet", {"a": BIG}, {"a": 1.5}),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_whole_numbers_that_would_be_rounded_are_refused_before_anything_is_scored(tmp_path, out, big, fraction, first):
    values = [big] * 64 + [fraction] if first else [fraction] * 64 + [big]
    rows = [{"query": "q", "document": "d", "n": value} for value in values]
    scorer = StubScorer()
    with pytest.raises(InvalidInputError, match=r"a\.jsonl, line (1|65) and after: 'n' is .*double.*--keep"):
        run_job(write_rows(tmp_path / "a.jsonl", rows), tmp_path / out, scorer=scorer)
    assert scorer.calls == []
    assert names(tmp_path) == {"a.jsonl"}
    run_job(tmp_path / "a.jsonl", tmp_path / "out.jsonl")
    assert [row["n"] for row in read_scored(tmp_path / "out.jsonl")] == values


def test_parquet_files_of_several_types_are_refused_where_no_type_holds_all_values(tmp_path):
    write_rows(tmp_path / "a.parquet", [{"query": "q", "document": "d", "n": BIG}])
    write_rows(tmp_path / "b.parquet", [{"query": "q", "document": "d", "n": 1.5}])
    scorer = StubScorer()
    with pytest.raises(InvalidInputError, match=r"a\.parquet, row 1 and after: 'n' is double"):
        run_job(tmp_path / "[ab].parquet", tmp_path / "out.parquet", scorer=scorer)
    assert scorer.calls == []
    write_rows(tmp_path / "a.parquet", [{"query": "q", "document": "d", "n": 2**53}])
    run_job(tmp_path / "[ab].parquet", tmp_path / "out.parquet")
    assert [row["n"] for row in read_scored(tmp_path / "out.parquet")] == [2**53, 1.5]


@pytest.mark.parametrize("empty", [{}, {"a": {}}, [{}]])
def test_objects_without_fields_are_refused_for_parquet_before_anything_is_scored(tmp_path, empty):
    pairs = write_rows(tmp_path / "a.jsonl", [{"query": "q", "document": "d", "m": empty}] * 70)
    scorer = StubScorer()
    with pytest.raises(InvalidInputError, match=r"parquet cannot hold the column 'm', .*--keep"):
        run_job(pairs, tmp_path / "out.parquet", scorer=scorer)
    assert scorer.calls == []
    run_job(pairs, tmp_path / "out.parquet", layout=Layout(keep=("query",)))


def test_what_pyarrow_only_refuses_when_it_is_written_says_how_to_go_on(tmp_path, monkeypatch):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))

    def refused(*_):
        raise pa.ArrowInvalid("no such value")

    with monkeypatch.context() as patch:
        patch.setattr("crossrank.bulk.output._GroupWriter.write", refused)
        with pytest.raises(OutputError, match=r"no such value.*all scores are kept.*--keep"):
            run_job(pairs, tmp_path / "out.parquet")
    assert names(tmp_path) == {"a.jsonl", "out.parquet.scoring"}
    assert run_job(pairs, tmp_path / "out.parquet", layout=Layout(keep=("id",))).resumed == ROWS


def test_values_that_need_quotes_are_refused_where_there_are_none(tmp_path):
    pairs = write_rows(tmp_path / "a.jsonl", [*make_rows(2), {"query": "q", "document": "a\tb"}])
    with pytest.raises(InvalidInputError, match=r"line 3: 'document' holds the delimiter"):
        run_job(pairs, tmp_path / "out.tsv", layout=Layout(quotes=False))
    run_job(pairs, tmp_path / "out.tsv", layout=Layout(quotes=False, keep=("query",)))


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\rb"])
def test_names_that_need_quotes_are_refused_where_there_are_none(tmp_path, name):
    scorer = StubScorer()
    plain = write_rows(tmp_path / "plain.jsonl", make_rows(2))
    pairs = write_rows(tmp_path / "a.jsonl", [row | {name: "x"} for row in make_rows(2)])
    for given, layout in ((pairs, Layout(quotes=False)), (plain, Layout(quotes=False, score=name))):
        with pytest.raises(InvalidInputError, match=r"the column name 'a\\.b' holds the delimiter or a line end"):
            run_job(given, tmp_path / "out.tsv", scorer=scorer, layout=layout)
    assert scorer.calls == []
    run_job(pairs, tmp_path / "out.tsv", layout=Layout(quotes=False, keep=("id",)))


@pytest.mark.parametrize("out", ["out.csv", "out.parquet"])
def test_keys_that_are_no_text_are_refused_where_columns_are_written(tmp_path, out):
    pairs = write_rows(tmp_path / "a.jsonl", [*make_rows(2), {"query": "q", "document": "d", "\ud800": 1}])
    with pytest.raises(InvalidInputError, match=r"a\.jsonl, line 3: the key '\\ud800' is no Unicode text"):
        run_job(pairs, tmp_path / out)
    run_job(pairs, tmp_path / out, layout=Layout(keep=("id",)))


def test_files_of_different_columns_are_refused_unless_those_to_carry_are_named(tmp_path):
    write_rows(tmp_path / "a.csv", make_rows(3))
    write_rows(tmp_path / "b.csv", [row | {"more": "x"} for row in make_rows(3)])
    with pytest.raises(InvalidInputError, match=r"b\.csv has the columns .*, files before it"):
        run_job(tmp_path / "*.csv", tmp_path / "out.csv")
    assert run_job(tmp_path / "[ab].csv", tmp_path / "out.csv", layout=Layout(keep=("id",))).rows == 6


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_column_to_keep_that_is_nowhere_is_refused(tmp_path, form):
    pairs = write_rows(tmp_path / f"a.{form}", make_rows(3))
    with pytest.raises(InvalidInputError, match=r"'ident'"):
        run_job(pairs, tmp_path / "out.jsonl", layout=Layout(keep=("ident",)))


def test_names_are_checked(tmp_path):
    write_rows(tmp_path / "a.jsonl", make_rows(3))
    out = tmp_path / "out.jsonl"
    for layout in ({"keep": ("a", "a")}, {"header": ("a", "a")}, {"keep": ("score",)}, {"score": ""}, {"query": None}):
        with pytest.raises(InvalidInputError):
            Layout(**layout)
    with pytest.raises(InvalidInputError, match=r"no file has such a name"):
        run_job(tmp_path / "*.csv", out)
    with pytest.raises(InvalidInputError, match=r"no such file"):
        run_job(tmp_path / "b.jsonl", out)
    with pytest.raises(InvalidInputError, match=r"given twice"):
        run_job([tmp_path / "a.jsonl", tmp_path / "*.jsonl"], out)
    with pytest.raises(InvalidInputError, match=r"is the output"):
        run_job(tmp_path / "a.jsonl", tmp_path / "a.jsonl")
    assert names(tmp_path) == {"a.jsonl"}


@pytest.mark.parametrize("finished", [False, True])
def test_a_link_to_the_output_is_no_file_of_pairs(tmp_path, finished):
    pairs, out, link = tmp_path / "a.jsonl", tmp_path / "out.jsonl", tmp_path / "b.jsonl"
    write_rows(pairs, make_rows(ROWS))
    link.symlink_to("out.jsonl")
    assert run_job(tmp_path / "*.jsonl", out).rows == ROWS
    if not finished:
        out.write_bytes(pairs.read_bytes())
    before = out.read_bytes()
    with pytest.raises(InvalidInputError, match=r"b\.jsonl is the output"):
        run_job(link, out, overwrite=True)
    assert out.read_bytes() == before
    assert run_job(tmp_path / "*.jsonl", out, overwrite=True).rows == ROWS  # no pattern means the output


def test_an_output_that_is_a_link_to_a_file_of_pairs_is_refused(tmp_path):
    pairs, out = write_rows(tmp_path / "a.jsonl", make_rows(ROWS)), tmp_path / "out.jsonl"
    out.symlink_to("a.jsonl")
    for given in (pairs, tmp_path / "[ab].jsonl"):
        with pytest.raises(InvalidInputError, match=r"a\.jsonl is the output"):
            run_job(given, out, overwrite=True)
    assert out.is_symlink()


def test_rows_without_texts_or_numbers_get_no_score_where_that_was_asked_for(tmp_path, small_blocks):
    rows = make_rows(ROWS)
    rows[3]["query"] = None
    del rows[12]["document"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for form in ("jsonl", "parquet", "csv"):
        out = tmp_path / f"out.{form}"
        summary = run_job(tmp_path / "a.jsonl", out, scorer=StubScorer(fails={"text 25"}), on_error="null")
        assert (summary.rows, summary.unscored) == (ROWS, 3)
        assert [index for index, row in enumerate(read_scored(out)) if row["score"] is None] == [3, 12, 25]


def test_rows_left_without_a_score_are_not_taken_over_where_that_is_refused(tmp_path, small_blocks):
    class Ends(StubScorer):
        def score(self, pairs):
            if ("query 4", "text 30") in pairs:
                raise InferenceError("every run failed")
            return super().score(pairs)

    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))
    out = tmp_path / "out.jsonl"
    with pytest.raises(InferenceError, match=r"every run failed"):
        run_job(pairs, out, scorer=Ends(fails={"text 5"}), on_error="null")
    with pytest.raises(InferenceError, match=r"out\.jsonl\.scoring has rows without a score \(1\).*--on-error null"):
        run_job(pairs, out)
    assert run_job(pairs, out, on_error="null").unscored == 1


@pytest.mark.parametrize("killed", [False, True])
def test_a_finished_output_with_rows_without_a_score_is_refused_where_these_are(tmp_path, monkeypatch, killed):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))
    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        if killed:  # after the record was written and before the work file was removed
            patch.setattr("crossrank.bulk.work_file.WorkFile.remove", lambda work: None)
        run_job(pairs, out, scorer=StubScorer(fails={"text 5", "text 7"}), on_error="null")
    before = out.read_bytes(), names(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(InferenceError, match=r"out\.jsonl has rows without a score \(2\).*--on-error null.*anew"):
            run_job(pairs, out, overwrite=overwrite)
        assert (out.read_bytes(), names(tmp_path)) == before
    again = run_job(pairs, out, on_error="null")
    assert (again.finished_before, again.unscored) == (True, 2)


def test_an_output_that_is_there_is_only_replaced_where_that_was_asked_for(tmp_path):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    with pytest.raises(OutputError, match=r"--overwrite"):
        run_job(pairs, out)
    assert (out.read_text(), names(tmp_path)) == ("precious", {"a.jsonl", "out.jsonl"})
    run_job(pairs, out, overwrite=True)
    assert len(read_scored(out)) == ROWS
    with pytest.raises(OutputError, match=r"not the finished output of this very job"):
        run_job(pairs, out, scorer=StubScorer(name="other"))
    assert names(tmp_path) == {"a.jsonl", "out.jsonl", "out.jsonl.job.json"}


def unfinished(tmp_path, **options):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))
    with pytest.raises(InferenceError):
        run_job(pairs, tmp_path / "out.jsonl", scorer=StubScorer(fails={"text 25"}), **options)
    return pairs


def test_an_output_that_came_meanwhile_is_not_replaced(tmp_path, small_blocks):
    pairs = unfinished(tmp_path)
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    with pytest.raises(OutputError, match=r"--overwrite"):
        run_job(pairs, out)
    assert out.read_text() == "precious"
    assert run_job(pairs, out, overwrite=True).resumed == 20


def test_scores_of_another_job_are_neither_taken_nor_thrown_away(tmp_path, small_blocks):
    pairs = unfinished(tmp_path)
    out = tmp_path / "out.jsonl"
    with pytest.raises(OutputError, match=r"model.name: 'stub', now 'other'"):
        run_job(pairs, out, scorer=StubScorer(name="other"), overwrite=True)
    with pytest.raises(OutputError, match=r"texts.reading.document: 'document', now 'query'"):
        run_job(pairs, out, layout=Layout(document="query"))
    changed = make_rows(ROWS)
    changed[30]["document"] = "changed"
    write_rows(pairs, changed)
    with pytest.raises(OutputError, match=r"sha256"):
        run_job(pairs, out)
    write_rows(pairs, make_rows(ROWS))
    assert run_job(pairs, out).resumed == 20


def test_scores_of_another_instruction_are_neither_taken_nor_thrown_away(tmp_path, tiny_artifact, small_blocks):
    artifact = with_instruction(tiny_artifact, tmp_path / "instructed")
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "out.jsonl"
    write_rows(pairs, make_rows(ROWS))

    def stop(progress):
        if progress.step == "scoring" and progress.done:
            raise KeyboardInterrupt

    with Reranker(artifact, threads=1) as reranker, pytest.raises(KeyboardInterrupt):
        score_files(reranker, pairs, out, progress=stop)
    changed = r"model.instruction: None, now 'Find recipes'"
    with (
        Reranker(artifact, threads=1, instruction="Find recipes") as reranker,
        pytest.raises(OutputError, match=changed),
    ):
        score_files(reranker, pairs, out)
    with Reranker(artifact, threads=1) as reranker:
        assert score_files(reranker, pairs, out).resumed >= 10


def test_scores_of_another_machine_are_taken_only_where_that_was_asked_for(tmp_path, small_blocks, monkeypatch):
    pairs = unfinished(tmp_path)
    out = tmp_path / "out.jsonl"
    monkeypatch.setattr("crossrank.bulk.job._processor", lambda: "another processor")
    with pytest.raises(OutputError, match=r"processor: .*, now 'another processor'.*--other-machine"):
        run_job(pairs, out)
    assert run_job(pairs, out, other_machine=True).resumed == 20
    assert len(json.loads((tmp_path / "out.jsonl.job.json").read_text())["machines"]) == 2


def test_a_file_that_changes_while_it_is_scored_gives_no_output(tmp_path, small_blocks):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))

    class Changing(StubScorer):
        def score(self, given):
            write_rows(pairs, make_rows(ROWS + 1))
            return super().score(given)

    with pytest.raises(InvalidInputError, match=r"changed while"):
        run_job(pairs, tmp_path / "out.jsonl", scorer=Changing())
    assert not (tmp_path / "out.jsonl").exists()


def test_a_foreign_work_file_is_refused_and_left_alone(tmp_path):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))
    work = tmp_path / "out.jsonl.scoring"
    work.write_text("not a database " * 100)
    with pytest.raises(OutputError, match=r"no work file of crossrank, or damaged"):
        run_job(pairs, tmp_path / "out.jsonl")
    assert work.read_text() == "not a database " * 100


def test_a_work_file_of_another_version_is_refused(tmp_path, small_blocks):
    pairs = unfinished(tmp_path)
    with sqlite3.connect(tmp_path / "out.jsonl.scoring") as connection:
        connection.execute("UPDATE facts SET value = '2' WHERE name = 'schema'")
    connection.close()
    with pytest.raises(OutputError, match="another version"):
        run_job(pairs, tmp_path / "out.jsonl")


@pytest.mark.parametrize("gone", [0, 10])
def test_a_work_file_with_a_block_missing_is_refused(tmp_path, small_blocks, gone):
    pairs = unfinished(tmp_path)
    with sqlite3.connect(tmp_path / "out.jsonl.scoring") as connection:
        connection.execute("DELETE FROM blocks WHERE first = ?", (gone,))
    connection.close()
    if gone == 0:
        with pytest.raises(OutputError, match="damaged: it has 10 rows up to row 20"):
            run_job(pairs, tmp_path / "out.jsonl")
    else:
        assert run_job(pairs, tmp_path / "out.jsonl").resumed == 10  # the last one: scored again


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
    assert names(tmp_path) == {"a.jsonl", f"{out.name}.scoring"}
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
    assert names(tmp_path) == {"a.jsonl", "out.jsonl.scoring"}
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


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"crossrank\[bulk\]"):
        score_files(None, tmp_path / "a.jsonl", tmp_path / "out.jsonl")


def test_arguments_are_checked_before_the_model_is_asked(tmp_path):
    write_rows(tmp_path / "a.jsonl", make_rows(3))
    with pytest.raises(InvalidInputError, match=r"on_error='ignore'"):
        score_files(None, tmp_path / "a.jsonl", tmp_path / "out.jsonl", on_error="ignore")
    with pytest.raises(OutputError, match=r"is no folder"):
        score_files(None, tmp_path / "a.jsonl", tmp_path / "nowhere" / "out.jsonl")
    with pytest.raises(InvalidInputError, match=r"at least one"):
        score_files(None, [], tmp_path / "out.jsonl")


@pytest.mark.parametrize("option", ["keep", "header"])
@pytest.mark.parametrize("value", ["query", (1,), 7])
def test_names_of_columns_are_given_as_a_tuple(option, value):
    with pytest.raises(InvalidInputError, match=f"{option}=.*: a tuple of column names expected"):
        Layout(**{option: value})


@pytest.mark.parametrize(
    "wrong",
    [{"reranker": None}, {"pairs": None}, {"pairs": 7}, {"pairs": [7]}, {"out": None}, {"layout": 7}, {"progress": 7}],
)
def test_arguments_of_a_wrong_type_are_refused(tmp_path, wrong):
    given = {"pairs": write_rows(tmp_path / "a.jsonl", make_rows(3)), "out": tmp_path / "out.jsonl"}
    given = {"reranker": None} | given | wrong
    with pytest.raises(InvalidInputError, match=f"{next(iter(wrong))}=.*expected"):
        score_files(**given)


@pytest.mark.parametrize(
    ("out", "layout", "message"),
    [
        ("out.jsonl", Layout(quotes=False), "--no-quotes"),
        ("out.csv", Layout(header=("query", "document")), "--header"),
    ],
)
def test_options_of_formats_that_take_no_part_are_refused(tmp_path, out, layout, message):
    write_rows(tmp_path / "a.jsonl", make_rows(3))
    with pytest.raises(InvalidInputError, match=message):
        score_files(None, tmp_path / "a.jsonl", tmp_path / out, layout=layout)


def no_number_for(token, original):
    """A `GraphSession.__init__` of sessions that give no number for rows with a token."""

    class Poisoned:
        def __init__(self, session):
            self.session = session

        def run(self, outputs, feeds):
            (logits,) = self.session.run(outputs, feeds)
            logits[(feeds["input_ids"] == token).any(axis=1)] = np.nan
            return [logits]

    def init(self, *arguments, **options):
        original(self, *arguments, **options)
        self._session = Poisoned(self._session)

    return init


def test_a_pair_that_gives_no_number_is_named_by_its_line_and_can_be_left_empty(tmp_path, tiny_artifact, monkeypatch):
    rows = make_rows(ROWS)
    rows[7]["document"] = "bread"
    pairs = write_rows(tmp_path / "a.jsonl", rows)
    with Reranker(tiny_artifact, precision="fp32", provider="cpu") as reranker:
        expected = reranker.score_pairs([(row["query"], row["document"]) for row in rows])
        tokenizer = Tokenizer.from_file(str(tiny_artifact / "tokenizer.json"))
    token = tokenizer.encode("bread", add_special_tokens=False).ids[0]
    monkeypatch.setattr(GraphSession, "__init__", no_number_for(token, GraphSession.__init__))
    with Reranker(tiny_artifact, precision="fp32", provider="cpu") as reranker:
        with pytest.raises(InferenceError, match=r"line 8 has no score"):
            score_files(reranker, pairs, tmp_path / "out.jsonl")
        assert score_files(reranker, pairs, tmp_path / "out.jsonl", on_error="null").unscored == 1
    found = [row["score"] for row in read_scored(tmp_path / "out.jsonl")]
    assert found.pop(7) is None
    assert found == pytest.approx(np.delete(expected, 7), abs=1e-5, rel=0)
