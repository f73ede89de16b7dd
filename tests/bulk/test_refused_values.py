"""Values and names of columns that the output cannot hold: refused before anything is scored where it can be known."""

import pyarrow as pa
import pytest
from bulk_jobs import StubScorer, file_names, make_rows, read_scored, run_job, write_rows

from crossrank import InvalidInputError, OutputError
from crossrank.bulk import Layout

ROWS = 35
BIG = 2**53 + 1  # the first whole number that is no double


def test_values_that_fit_no_column_are_refused_where_columns_are_written(tmp_path):
    rows = [{"query": "q", "document": "d", "n": value} for value in (1, "one")]
    for number, some in enumerate((rows, rows[:1] * 64 + rows[1:])):
        pairs = write_rows(tmp_path / f"{number}.jsonl", some)
        with pytest.raises(InvalidInputError, match=r"leave the column out"):
            run_job(pairs, tmp_path / "out.parquet")
        run_job(pairs, tmp_path / f"out{number}.parquet", layout=Layout(keep=("query",)))


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
    assert file_names(tmp_path) == {"a.jsonl"}
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
    assert file_names(tmp_path) == {"a.jsonl", "out.parquet.scoring"}
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
