"""Arguments that are refused before the model is asked."""

import sys

import pytest
from bulk_jobs import file_names, make_rows, run_job, write_rows

from crossrank import InvalidInputError, MissingDependencyError, OutputError
from crossrank.bulk import Layout, score_files


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
    assert file_names(tmp_path) == {"a.jsonl"}


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
