"""Files of pairs that are refused, with the file and the line, before anything is scored."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_jobs import StubScorer, file_names, make_rows, run_job, write_rows

from crossrank import InvalidInputError
from crossrank.bulk import Layout

ROWS = 35
PAIR = '{"query": "q", "document": "d"}\n'


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
    assert file_names(tmp_path) == {name}


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
    assert file_names(tmp_path) == {"a.parquet"}


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


def test_files_of_different_columns_are_refused_unless_those_to_carry_are_named(tmp_path):
    write_rows(tmp_path / "a.csv", make_rows(3))
    write_rows(tmp_path / "b.csv", [row | {"more": "x"} for row in make_rows(3)])
    with pytest.raises(InvalidInputError, match=r"b\.csv has the columns .*, files before it"):
        run_job(tmp_path / "*.csv", tmp_path / "out.csv")
    assert run_job(tmp_path / "[ab].csv", tmp_path / "out.csv", layout=Layout(keep=("id",))).rows == 6


@pytest.mark.parametrize("out", ["out.jsonl", "out.csv", "out.tsv", "out.parquet"])
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_column_to_keep_that_is_nowhere_is_refused(tmp_path, form, out):
    pairs = write_rows(tmp_path / f"a.{form}", make_rows(3))
    with pytest.raises(InvalidInputError, match=r"'ident'"):
        run_job(pairs, tmp_path / out, layout=Layout(keep=("ident",)))
    assert file_names(tmp_path) == {pairs.name}
    assert run_job(pairs, tmp_path / out, layout=Layout(keep=("id",))).rows == 3


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


def test_a_file_that_changes_while_it_is_scored_gives_no_output(tmp_path, small_blocks):
    pairs = write_rows(tmp_path / "a.jsonl", make_rows(ROWS))

    class Changing(StubScorer):
        def score(self, given):
            write_rows(pairs, make_rows(ROWS + 1))
            return super().score(given)

    with pytest.raises(InvalidInputError, match=r"changed while"):
        run_job(pairs, tmp_path / "out.jsonl", scorer=Changing())
    assert not (tmp_path / "out.jsonl").exists()


def test_scores_of_texts_that_were_in_a_file_for_a_while_are_not_kept_for_those_before(tmp_path, small_blocks):
    rows = make_rows(600)  # more than is read ahead
    others = [row | {"document": row["document"].replace("text", "next")} for row in rows]
    pairs, out = write_rows(tmp_path / "a.jsonl", rows), tmp_path / "out.jsonl"
    run_job(pairs, tmp_path / "undisturbed.jsonl")

    class Changing(StubScorer):
        def score(self, given):
            if not self.calls:
                write_rows(pairs, others)
            return super().score(given)

    with pytest.raises(InvalidInputError, match=r"changed while"):
        run_job(pairs, out, scorer=Changing())
    write_rows(pairs, rows)
    run_job(pairs, out)
    assert out.read_bytes() == (tmp_path / "undisturbed.jsonl").read_bytes()
