"""`crossrank bench` as a user runs it, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossrank.benchmarks.contenders import PEERS, chosen_peers
from crossrank.benchmarks.environment import library_versions
from crossrank.benchmarks.peer_environments import Installation, environment_names
from crossrank.cli.app import app
from crossrank.cli.bench_output import default_checkpoint
from crossrank.models.artifact import sha256_of
from crossrank.models.errors import InvalidInputError


@pytest.fixture
def bench(tiny_artifact):
    def run(*arguments):
        return CliRunner().invoke(app, ["bench", "--model", str(tiny_artifact), *map(str, arguments)])

    return run


def test_a_run_writes_all_figures_tables_and_plots(bench, tiny_artifact, tmp_path):
    written = tmp_path / "result.json"
    done = bench(
        "--documents", "short", "--top-k", "2,3", "--seconds", "0", "--compare", "--peers", "", "--no-scenarios",
        "--peers-folder", tmp_path / "none", "--curve", "2,3", "--rounds", "1",
        "--json", written, "--plots", tmp_path / "plots", "--markdown", tmp_path / "report.md",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads(written.read_text())
    assert [(row["precision"], row["top_k"]) for row in result["latency"]] == [
        ("fp32", 2),
        ("fp32", 3),
        ("int8", 2),
        ("int8", 3),
    ]
    assert all(row["latency"]["p50"] <= row["latency"]["p99"] for row in result["latency"])
    assert set(result["comparison"]["scenarios"][1]["contenders"]) == {"crossrank-fp32", "crossrank-int8"}
    graph = result["artifacts"]["int8"]["graphs"]["int8"]
    assert graph["sha256"] == sha256_of(tiny_artifact / "int8.onnx")
    assert result["versions"] == library_versions()
    assert len(result["load_average_before"]) == 3
    assert result["machine"]["cores"] >= 1
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"latency.png", "latency-peers.png"}
    report = (tmp_path / "report.md").read_text()
    assert "## Conditions" in report
    assert "(plots/latency-peers.png)" in report
    assert "pairs/s" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int4"], "--precision 'int4'"),
        (["--documents", "huge"], "--documents 'huge'"),
        (["--top-k", "ten"], "--top-k 'ten'"),
        (["--top-k", "\u00b2"], "--top-k '\u00b2'"),
        (["--top-k", "9" * 5000], "whole numbers of at least 1"),
        (["--compare"], "name its folder with --checkpoint"),
        (["--compare", "--peers", "nobody"], "nobody"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_measured(bench, arguments, message):
    done = bench("--no-latency", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_precision_the_model_lacks_is_told_and_the_others_are_measured(bench, tmp_path):
    written = tmp_path / "result.json"
    done = bench("--no-latency", "--precision", "fp16,fp32", "--json", written)
    assert done.exit_code == 0, done.output
    result = json.loads(written.read_text())
    assert list(result["artifacts"]) == ["fp32"]
    assert "no fp16 graph" in result["missing_precisions"]["fp16"]


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_every_peer_that_runs_on_a_provider_has_an_environment_with_requirements_there(provider):
    peers, absent = chosen_peers(None, provider)
    assert {peer.environment for peer in peers} == set(environment_names(provider))
    assert {peer.name for peer in peers} | set(absent) == {peer.name for peer in PEERS}


def test_a_comparison_makes_the_environments_that_are_missing_and_no_others(bench, monkeypatch, tmp_path, checkpoint):
    made = []

    def install(folder, names, **_):
        made.append((folder, names))
        return [Installation(name, "") for name in names]

    def stop(*_, **__):
        raise InvalidInputError("nothing is measured here")

    monkeypatch.setattr("crossrank.benchmarks.peer_environments.install", install)
    monkeypatch.setattr("crossrank.benchmarks.run.run_benchmark", stop)
    (tmp_path / "flashrank").mkdir()
    (tmp_path / "flashrank" / "installed").touch()
    peers = "flashrank,flashrank-int8,fastembed,optimum"
    options = ["--compare", "--peers-folder", tmp_path, "--checkpoint", checkpoint]
    assert bench(*options, "--peers", peers).exit_code == 2
    assert made == [(tmp_path, ["fastembed", "sentence-transformers-onnx"])]
    assert "nobody" in bench(*options, "--peers", "fastembed,nobody").stderr
    assert len(made) == 1, "what cannot be compared fetches nothing"


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_the_default_models_checkpoint_is_found_in_a_source_checkout_by_its_weights(monkeypatch, tmp_path):
    here = Path(__file__).parents[2]
    monkeypatch.chdir(here / "tests")
    assert default_checkpoint("default") == here / "models" / "default" / "checkpoint"
    assert default_checkpoint("other") is None
    other = tmp_path / "models" / "default" / "checkpoint"
    other.mkdir(parents=True)
    (other / "model.safetensors").write_bytes(b"another model's weights")
    monkeypatch.chdir(tmp_path)
    assert default_checkpoint("default") is None
