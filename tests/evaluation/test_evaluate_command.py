"""`crossrank evaluate` as a user runs it."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from crossrank.cli.app import app
from crossrank.evaluation import read_collection, read_run


@pytest.fixture
def command(tiny_artifact, tmp_path):
    def run(folder, *arguments, models=(tiny_artifact,)):
        named = [argument for model in models for argument in ("--model", model)]
        given = ["evaluate", "--collection", folder, "--scores", tmp_path / "kept", *named, *arguments]
        return CliRunner().invoke(app, [str(argument) for argument in given])

    return run


def test_tables_figures_plot_and_runs_are_written(command, many_queries, tiny_artifact, tmp_path):
    out = tmp_path / "out"
    done = command(
        many_queries, "--precision", "fp32,int8", "--depth", "6", "--queries", "4", "--gain", "exponential",
        "--json", out / "r.json", "--markdown", out / "r.md", "--plot", out / "r.png", "--save-run", out / "runs",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads((out / "r.json").read_text())
    assert (result["gain"], result["gain_formula"], result["depth"]) == ("exponential", "2^grade - 1", 6)
    assert result["measures"] == ["nDCG@10", "MRR@10", "Recall@10"]
    assert result["machine"]["cores"] >= 1
    names = [f"{tiny_artifact} fp32", f"{tiny_artifact} int8"]
    assert [model["name"] for model in result["models"]] == ["first stage", *names]
    for model in result["models"]:
        for measure, mean in model["means"].items():
            assert mean == pytest.approx(sum(model["values"][measure].values()) / 4)
            assert f"{mean:.4f}" in done.stdout
        assert len(model["seconds"]) == (0 if model["name"] == "first stage" else 4)
    assert set(result["models"][2]["comparisons"]) == set(result["measures"])
    assert result["models"][1]["comparisons"] == {}
    assert "| model | precision |" in (out / "r.md").read_text()
    assert "(r.png)" in (out / "r.md").read_text()
    runs = {path.name: read_run(path) for path in (out / "runs").iterdir()}
    assert len(runs) == 3
    first_stage = read_collection(many_queries).runs
    assert runs["first-stage.trec"] == {f"q{index}": first_stage[f"q{index}"][:6] for index in range(4)}
    assert "query 4 of 4" in done.stderr
    assert " s left" in done.stderr


def test_a_run_that_was_saved_is_judged_as_it_was_when_reranked(command, many_queries, tmp_path):
    first = command(many_queries, "--save-run", tmp_path / "runs", "--json", tmp_path / "1.json")
    assert first.exit_code == 0, first.output
    (run,) = [path for path in (tmp_path / "runs").iterdir() if path.name != "first-stage.trec"]
    second = command(many_queries, "--run", run, "--json", tmp_path / "2.json")
    assert second.exit_code == 0, second.output
    before, after = (json.loads((tmp_path / name).read_text()) for name in ("1.json", "2.json"))
    assert after["models"][0]["values"] == before["models"][1]["values"]


def test_a_second_run_goes_on_from_what_the_first_scored(command, many_queries, counted):
    assert command(many_queries, "--queries", "5").exit_code == 0
    done = command(many_queries)
    assert done.exit_code == 0, done.output
    assert len(counted) == 12
    assert "5 of 12 queries scored by an earlier evaluation" in done.stdout


def test_cascades_take_part(command, many_queries, tiny_artifact, tmp_path):
    file = tmp_path / "cascade.toml"
    stages = f'[[stage]]\nmodel = "{tiny_artifact}"\nkeep = 3\nmax_length = 12\n[[stage]]\nmodel = "{tiny_artifact}"\n'
    file.write_text(stages)
    done = command(many_queries, "--cascade", file, "--queries", "2", "--json", tmp_path / "r.json")
    assert done.exit_code == 0, done.output
    names = [model["name"] for model in json.loads((tmp_path / "r.json").read_text())["models"]]
    assert names == ["first stage", str(tiny_artifact), f"cascade {file}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int4"], "--precision 'int4'"),
        (["--precision", ","], "--precision ','"),
        (["--measure", "goodness@10"], "measure 'goodness@10'"),
        (["--run", "/nowhere.trec"], "/nowhere.trec is not there"),
        (["--json", "/"], "--json / is a folder"),
        (["--save-run", "/dev/null/runs"], "--save-run"),
        (["--model", "default", "--model", "default"], "'default' is given twice"),
        (["--depth", "0"], "--depth"),
        (["--cascade", "default", "--max-length", "32"], "--cascade names the lengths of its stages"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_scored(command, collection, counted, arguments, message):
    done = command(collection, *arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert counted == []


def test_a_document_of_the_run_that_the_corpus_lacks_is_refused_with_its_line(command, collection, counted):
    with (collection / "bm25.trec").open("a") as stream:
        stream.write("1 Q0 gone 3 1.0 bm25\n")
    done = command(collection)
    assert done.exit_code == 2
    assert "bm25.trec, line 5: document 'gone' is not in the corpus" in done.stderr
    assert counted == []


@pytest.mark.parametrize(("module", "option"), [("ir_measures", None), ("scipy.stats", None), ("matplotlib", "--plot")])
def test_a_missing_package_is_named_before_anything_is_scored(
    command, collection, counted, monkeypatch, tmp_path, module, option
):
    monkeypatch.setitem(sys.modules, module, None)
    done = command(collection, *([option, tmp_path / "x.png"] if option else []))
    assert done.exit_code == 1, done.output
    assert "crossrank[bench]" in done.stderr
    assert counted == []


def test_the_table_is_printed_also_where_a_file_cannot_be_written(command, collection, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crossrank.cli.evaluate.write_file", full)
    done = command(collection, "--json", tmp_path / "r.json")
    assert done.exit_code == 1
    assert "No space left on device" in done.stderr
    assert "first stage" in done.stdout
