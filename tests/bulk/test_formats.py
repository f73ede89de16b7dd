"""Every format in, every format out: the rows as they were, each with its score."""

import csv
import json
import tempfile
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_jobs import StubScorer, make_rows, read_scored, run_job, stub_score, write_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.bulk import Layout

FORMS = [".parquet", ".jsonl", ".csv", ".tsv", ".jsonl.gz", ".csv.bz2", ".tsv.zst", ".jsonl.lz4"]


def scored(rows):
    return [row | {"score": stub_score(row["query"], row["document"])} for row in rows]


@pytest.mark.parametrize("given_form", FORMS)
@pytest.mark.parametrize("out_form", [".parquet", ".jsonl", ".csv", ".tsv"])
def test_rows_come_out_in_their_order_with_their_scores(tmp_path, given_form, out_form):
    rows = make_rows(150)
    pairs = write_rows(tmp_path / f"pairs{given_form}", rows)
    summary = run_job(pairs, tmp_path / f"out{out_form}")
    assert read_scored(tmp_path / f"out{out_form}") == scored(rows)
    assert (summary.rows, summary.unscored, summary.resumed, summary.tokens) == (150, 0, 0, 450)


@pytest.mark.parametrize("out_form", FORMS)
def test_outputs_of_every_form_and_compression_have_the_same_bytes_each_time(tmp_path, out_form):
    pairs = write_rows(tmp_path / "pairs.jsonl", make_rows(70))
    outs = [tmp_path / f"{name}{out_form}" for name in ("one", "other")]
    for out in outs:
        run_job(pairs, out)
        assert read_scored(out) == scored(make_rows(70))
    assert outs[0].read_bytes() == outs[1].read_bytes()


texts = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
        st.sampled_from("\",\t\n\r '\\\u2028\u0085\x1c\ufeff"),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(
    rows=st.lists(st.tuples(texts, texts, texts), max_size=8),
    forms=st.permutations([".parquet", ".jsonl", ".csv", ".tsv"]),
)
def test_any_text_survives_any_chain_of_formats(rows, forms):
    rows = [{"query": query, "document": document, "other": other} for query, document, other in rows]
    rows.append({"query": "last", "document": "row", "other": "x"})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "pairs.jsonl", rows)
        chain = [folder / "pairs.jsonl", *(folder / f"out{form}" for form in forms)]
        for number, (pairs, out) in enumerate(pairwise(chain)):
            run_job(pairs, out, layout=Layout(keep=("query", "document", "other"), score=f"s{number}"))
        found = read_scored_as(chain[-1], "s3")
    assert found == [row | {"s3": stub_score(row["query"], row["document"])} for row in rows]


def read_scored_as(path, name):
    """Rows with a score of another name."""
    if path.suffix == ".parquet":
        return [row | {name: stub_float(row[name])} for row in pq.read_table(path).to_pylist()]
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="," if path.suffix == ".csv" else "\t", strict=True)
        return [row | {name: float(row[name])} for row in reader]


def stub_float(value):
    import numpy as np

    return float(str(np.float32(value)))


def test_json_lines_keep_what_varies_from_row_to_row(tmp_path):
    rows = [
        {"query": "q", "document": "d", "n": 1, "nested": {"a": [1, 2.5, None, True], "b": {}}},
        {"document": "e", "query": "q", "n": "one", "größe": "\ud800", "big": 2**80, "f": 1e300},
        {"query": "q", "document": "", "n": None},
    ]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n\n".join(map(json.dumps, rows)) + "\r\n", encoding="utf-8")
    run_job(pairs, tmp_path / "out.jsonl")
    assert read_scored(tmp_path / "out.jsonl") == scored(rows)
    run_job(pairs, tmp_path / "some.jsonl", layout=Layout(keep=("n", "größe")))
    assert read_scored(tmp_path / "some.jsonl")[1] == {"n": "one", "größe": "\ud800", "score": stub_score("q", "e")}


def test_json_lines_become_columns_where_one_type_holds_their_values(tmp_path):
    rows = [{"query": "q", "document": str(index), "n": index} for index in range(100)]
    rows += [{"query": "q", "document": "x", "n": 0.5, "late": {"a": "b"}}, {"query": "q", "document": "y", "n": None}]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run_job(pairs, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("n").type == pa.float64()
    assert table.column("n").to_pylist() == [row["n"] for row in rows]
    assert table.column("late").to_pylist()[-2:] == [{"a": "b"}, None]


def test_parquet_columns_keep_their_types_and_become_text_where_text_is_written(tmp_path):
    columns = {
        "query": pa.array(["q", "q"]).dictionary_encode(),
        "document": pa.array(["a", "b"], pa.large_string()),
        "when": pa.array([datetime(2026, 1, 2, 3, 4, 5), None], pa.timestamp("us")),  # noqa: DTZ001
        "day": pa.array([date(2026, 1, 2), None]),
        "price": pa.array([Decimal("1.20"), None]),
        "n": pa.array([2**60, None]),
        "f": pa.array([float("nan"), 0.1]),
        "tags": pa.array([["x"], []]),
    }
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    run_job(tmp_path / "pairs.parquet", tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet")
    for name, column in columns.items():
        kept = column.dictionary_decode() if name == "query" else column
        assert out.column(name).type == kept.type
        assert str(out.column(name).to_pylist()) == str(kept.to_pylist())
    run_job(tmp_path / "pairs.parquet", tmp_path / "out.jsonl")
    first, second = read_scored(tmp_path / "out.jsonl")
    assert (first["when"], first["day"], first["price"]) == ("2026-01-02 03:04:05.000000", "2026-01-02", "1.20")
    assert (first["n"], first["f"], first["tags"], second["f"], second["n"]) == (2**60, None, ["x"], 0.1, None)
    run_job(tmp_path / "pairs.parquet", tmp_path / "out.csv", layout=Layout(keep=("when", "price", "n", "document")))
    assert read_scored(tmp_path / "out.csv")[0] == {
        "when": "2026-01-02 03:04:05.000000",
        "price": "1.20",
        "n": str(2**60),
        "document": "a",
        "score": stub_score("q", "a"),
    }


def test_several_files_are_one_after_another_by_name_and_the_output_is_none_of_them(tmp_path):
    rows = make_rows(90)
    write_rows(tmp_path / "b.jsonl", rows[30:60])
    write_rows(tmp_path / "a.csv.gz", rows[:30])
    write_rows(tmp_path / "c.parquet", rows[60:])
    out = tmp_path / "out.jsonl"
    for overwrite in (False, True):
        run_job(tmp_path / "*.*", out, overwrite=overwrite)
        assert read_scored(out) == scored(rows)
    run_job([tmp_path / "c.parquet", tmp_path / "[ab].*"], tmp_path / "second.csv")
    assert read_scored(tmp_path / "second.csv") == scored(rows[60:] + rows[:60])


def test_fields_that_only_json_lines_have_are_null_in_rows_of_other_files(tmp_path):
    rows = make_rows(3)
    write_rows(tmp_path / "a.parquet", rows)
    write_rows(
        tmp_path / "b.jsonl",
        [row | {"more": value} for row, value in zip(make_rows(70), [1, *[0.5] * 69], strict=True)],
    )
    run_job(tmp_path / "[ab].*", tmp_path / "out.parquet")
    assert [row["more"] for row in read_scored(tmp_path / "out.parquet")] == [None] * 3 + [1.0] + [0.5] * 69


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    write_rows(tmp_path / "a[1].jsonl", make_rows(3))
    run_job(tmp_path / "a[1].jsonl", tmp_path / "out.jsonl")
    assert len(read_scored(tmp_path / "out.jsonl")) == 3


def test_long_values_are_read_and_the_limit_of_the_process_stays(tmp_path):
    limit = csv.field_size_limit()
    rows = [{"query": "q", "document": length * "long "} for length in (100_000, 1)]
    run_job(write_rows(tmp_path / "pairs.csv", rows), tmp_path / "out.jsonl")
    assert read_scored(tmp_path / "out.jsonl") == scored(rows)
    assert csv.field_size_limit() == limit


def test_columns_are_chosen_by_name(tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text('id,frage,text\n7,wer,"a,b"\n', encoding="utf-8-sig")
    layout = Layout(query="frage", document="text", score="wert", keep=("id",))
    run_job(pairs, tmp_path / "out.csv", layout=layout)
    assert (tmp_path / "out.csv").read_text() == f'"id","wert"\n"7",{stub_score("wer", "a,b")}\n'


def test_one_column_may_be_query_and_document(tmp_path):
    pairs = write_rows(tmp_path / "pairs.parquet", make_rows(3))
    run_job(pairs, tmp_path / "out.jsonl", layout=Layout(query="document", keep=()))
    assert read_scored(tmp_path / "out.jsonl")[1] == {"score": stub_score("text 1", "text 1")}


def test_files_without_header_and_quotes_are_read_and_written_as_they_are(tmp_path):
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text('1\twho "is\t"quoted" he said\n2\t\t\'\r\n', encoding="utf-8")
    layout = Layout(header=("id", "query", "document"), quotes=False)
    run_job(pairs, tmp_path / "out.tsv", layout=layout)
    one, two = stub_score('who "is', '"quoted" he said'), stub_score("", "'")
    assert (tmp_path / "out.tsv").read_text() == (
        f'id\tquery\tdocument\tscore\n1\twho "is\t"quoted" he said\t{one}\n2\t\t\'\t{two}\n'
    )


@pytest.mark.parametrize("form", [".parquet", ".jsonl", ".csv"])
def test_no_rows_give_an_output_without_rows(tmp_path, form):
    pairs = tmp_path / f"pairs{form}"
    if form == ".parquet":
        pq.write_table(pa.table({"query": pa.array([], pa.string()), "document": pa.array([], pa.string())}), pairs)
    else:
        pairs.write_text("" if form == ".jsonl" else "query,document\n")
    for out_form in (".parquet", ".jsonl", ".csv"):
        assert run_job(pairs, tmp_path / f"out{out_form}").rows == 0
        assert read_scored(tmp_path / f"out{out_form}") == []


def test_the_pairs_of_a_block_are_scored_in_one_call(tmp_path, small_blocks):
    scorer = StubScorer()
    run_job(write_rows(tmp_path / "pairs.csv", make_rows(25)), tmp_path / "out.csv", scorer=scorer)
    assert sorted(map(len, scorer.calls)) == [5, 10, 10]


def test_a_block_ends_early_where_its_texts_are_long(tmp_path, monkeypatch):
    monkeypatch.setattr("crossrank.bulk.blocks.BLOCK_CHARACTERS", 100)
    lengths = (40, 40, 200, 90, 5)
    rows = [{"query": "", "document": "x" * length} for length in lengths]
    scorer = StubScorer()
    run_job(write_rows(tmp_path / "pairs.jsonl", rows), tmp_path / "out.jsonl", scorer=scorer)
    assert sorted([len(text) for _, text in call] for call in scorer.calls) == [[40, 40], [90, 5], [200]]
    assert read_scored(tmp_path / "out.jsonl") == scored(rows)


def test_a_job_leaves_others_their_limit_of_values_and_is_not_held_to_it(tmp_path, small_blocks):
    rows = make_rows(600)
    rows[500]["document"] = "x" * 200_000
    pairs = write_rows(tmp_path / "a.csv", rows)
    limits = []

    class Told:
        def append(self, progress):  # in the thread that reads, between two rows
            limits.append(csv.field_size_limit())

    before = csv.field_size_limit()
    assert run_job(pairs, tmp_path / "out.csv", told=Told()).rows == 600
    assert len(limits) > 60
    assert set(limits) == {before}
