"""`crossrank bench` as a user runs it, on a tiny model."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossrank.benchmarks.harness.environment import library_versions
from crossrank.benchmarks.harness.workloads import WorkloadMaker
from crossrank.benchmarks.peers.contenders import PEERS, chosen_peers
from crossrank.benchmarks.peers.environments import Installation, environment_names
from crossrank.cli.app import app
from crossrank.cli.bench_output import embedded_checkpoint
from crossrank.errors import InferenceError, InvalidInputError
from crossrank.models.artifact import sha256_of
from crossrank.models.embedded import EMBEDDED_MODELS


@pytest.fixture
def bench(tiny_artifact):
    def run(benchmark, *arguments):
        command = ["bench", benchmark, "--model", tiny_artifact, *arguments]
        return CliRunner().invoke(app, [str(argument) for argument in command])

    return run


QUICK = ("--documents", "short", "--top-k", "2", "--seconds", "0")
OWN_CURVE = ("--peers", "", "--no-scenarios", "--curve", "2,3", "--rounds", "1")


def test_latency_writes_all_figures_tables_and_plots(bench, tiny_artifact, tmp_path):
    written = tmp_path / "result.json"
    done = bench(
        "latency", "--documents", "short", "--top-k", "2,3", "--seconds", "0",
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
    graph = result["artifacts"]["int8"]["graphs"]["int8"]
    assert graph["sha256"] == sha256_of(tiny_artifact / "int8.onnx")
    assert result["versions"] == library_versions()
    assert len(result["load_average_before"]) == 3
    assert result["machine"]["cores"] >= 1
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"latency.png"}
    report = (tmp_path / "report.md").read_text()
    assert "## Conditions" in report
    assert "(plots/latency.png)" in report
    assert "pairs/s" in done.stdout


def test_a_comparison_writes_all_figures_tables_and_plots(bench, tmp_path):
    written = tmp_path / "result.json"
    done = bench(
        "peers", *OWN_CURVE, "--peers-folder", tmp_path / "none",
        "--json", written, "--plots", tmp_path / "plots", "--markdown", tmp_path / "report.md",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    comparison = json.loads(written.read_text())["comparison"]
    assert set(comparison["scenarios"][1]["contenders"]) == {"crossrank-fp32", "crossrank-int8"}
    assert comparison["agreement"]["reference"] == "crossrank-fp32"
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"latency-peers.png"}
    assert "(plots/latency-peers.png)" in (tmp_path / "report.md").read_text()
    assert "time / crossrank-int8" in done.stdout


@pytest.mark.parametrize("failure", [InferenceError("no memory"), KeyboardInterrupt()], ids=["failure", "interrupt"])
def test_parts_before_one_that_fails_are_kept_and_shown(bench, monkeypatch, tmp_path, failure):
    real = WorkloadMaker.of_length

    def of_length(self, length, top_k):
        if top_k == 3:
            assert [row["top_k"] for row in json.loads(written.read_text())["latency"]] == [2], "kept at once"
            raise failure
        return real(self, length, top_k)

    monkeypatch.setattr(WorkloadMaker, "of_length", of_length)
    written = tmp_path / "result.json"
    outputs = ["--json", written, "--markdown", tmp_path / "report.md", "--plots", tmp_path]
    done = bench("latency", "--documents", "short", "--top-k", "2,3", "--seconds", "0", *outputs)
    assert done.exit_code != 0
    assert str(failure) in done.stderr
    assert [row["top_k"] for row in json.loads(written.read_text())["latency"]] == [2]
    assert "pairs/s" in done.stdout
    assert "(latency.png)" in (tmp_path / "report.md").read_text()


FOLDER = "FOLDER"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["latency", "--precision", "int4"], "--precision 'int4'"),
        (["latency", "--documents", "huge"], "--documents 'huge'"),
        (["latency", "--top-k", "ten"], "--top-k 'ten'"),
        (["latency", "--top-k", "\u00b2"], "--top-k '\u00b2'"),
        (["latency", "--top-k", "9" * 5000], "whole numbers of at least 1"),
        (["latency", "--top-k", ""], "--top-k ''"),
        (["peers"], "name its folder with --checkpoint"),
        (["peers", "--peers", "nobody"], "nobody"),
        (["latency", "--precision", ""], "--precision ''"),
        (["latency", "--checkpoint", "/nowhere"], "checkpoint /nowhere"),
        (["latency", "--text", "/nowhere"], "/nowhere/corpus.jsonl is not there"),
        (["ceiling", "--text", "/nowhere"], "/nowhere/corpus.jsonl is not there"),
        (["windows", "--collection", "/nowhere"], "/nowhere/corpus.jsonl is not there"),
        (["deadlines", "--collection", "/nowhere"], "/nowhere/corpus.jsonl is not there"),
        (["deadlines", "--collection", FOLDER, "--limits", "0"], "--limits '0'"),
        (["windows"], "--collection"),
        (["deadlines"], "--collection"),
        (["deadlines", "--collection", FOLDER, "--top-k", "3"], "--top-k"),
        (["ceiling", "--peers", "flashrank"], "--peers"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_measured(bench, nothing_measured, folder, arguments, message):
    done = bench(*(folder if argument == FOLDER else argument for argument in arguments))
    assert done.exit_code == 2, done.output
    assert message in done.stderr


@pytest.fixture
def nothing_measured(monkeypatch):
    """Neither a reranker nor another process may be started."""
    for home in ("latency.latency_grid", "ceiling.share", "quality.deadlines", "quality.long_documents"):
        monkeypatch.setattr(f"crossrank.benchmarks.{home}.Reranker", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr("crossrank.benchmarks.peers.comparison.WorkerProcess", lambda *_: pytest.fail("measured"))


BENCHMARKS = ("latency", "ceiling", "peers", "load", "deadlines", "windows", "cascade")


@pytest.mark.parametrize(
    "arguments",
    [
        *(("bench", name, option) for name in BENCHMARKS for option in ("--json", "--markdown")),
        *(("bench", name, "--plots") for name in BENCHMARKS if name != "windows"),
        *(("bench", "cascade", option) for option in ("--toml", "--scores")),
        ("self-check", "--json"),
    ],
    ids=" ".join,
)
def test_a_path_that_cannot_be_written_is_refused_before_anything_is_measured(monkeypatch, tmp_path, arguments):
    *command, option = arguments
    monkeypatch.setattr("crossrank.benchmarks.harness.result.prepare", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr("crossrank.benchmarks.cascade.tune.tune_cascade", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr("crossrank.self_check.run.run_self_check", lambda *_, **__: pytest.fail("measured"))
    if command[-1] in {"deadlines", "windows", "cascade"}:
        command += ["--collection", str(tmp_path)]
    (tmp_path / "file").touch()
    unwritable = [tmp_path / "file" / "below"]
    unwritable += [tmp_path / "file"] if option in {"--plots", "--scores"} else [tmp_path]
    for path in unwritable:
        done = CliRunner().invoke(app, [*command, option, str(path)])
        assert done.exit_code == 2, done.output
        assert option in done.stderr
        assert "expected" in done.stderr


def test_a_path_without_permission_to_write_is_refused(bench, nothing_measured, monkeypatch, tmp_path):
    # Not by setting a folder's mode: root, as whom tests may run, can write everywhere.
    monkeypatch.setattr("os.access", lambda _, mode: not mode & os.W_OK)
    (tmp_path / "old").touch()
    for arguments in (
        ["--json", tmp_path / "new" / "one"],
        ["--plots", tmp_path / "new"],
        ["--json", tmp_path / "old"],
    ):
        done = bench("latency", *arguments)
        assert done.exit_code == 2
        assert "expected" in done.stderr
        assert str(tmp_path) in done.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "fix"),
    [
        ("matplotlib", ["latency", "--plots", "plots"], "crossrank[bench]"),
        ("matplotlib", ["ceiling"], "crossrank[bench]"),
        ("matplotlib", ["peers", "--peers", ""], "crossrank[bench]"),
        ("onnx", ["ceiling"], "crossrank[onnx]"),
        ("ir_measures", ["windows", "--collection", FOLDER], "crossrank[bench]"),
        ("ir_measures", ["deadlines", "--collection", FOLDER], "crossrank[bench]"),
    ],
)
def test_a_missing_package_is_reported_before_anything_is_measured(
    bench, nothing_measured, monkeypatch, folder, module, arguments, fix
):
    monkeypatch.setitem(sys.modules, module, None)
    done = bench(*(folder if argument == FOLDER else argument for argument in arguments))
    assert done.exit_code == 1, done.output
    assert fix in done.stderr
    assert not Path("crossrank-plots").exists()


def test_documents_too_few_for_windows_are_refused_before_rankings_are_judged(bench, monkeypatch, folder):
    judged = "crossrank.benchmarks.quality.long_documents.measure_long_documents"
    monkeypatch.setattr(judged, lambda *_, **__: pytest.fail("measured"))
    corpus = (folder / "corpus.jsonl").read_text().splitlines()
    (folder / "corpus.jsonl").write_text("\n".join(corpus[:12]))
    (folder / "bm25.trec").write_text("q0 Q0 d1 1 2.0 x\n")
    done = bench("windows", "--collection", folder)
    assert done.exit_code == 2, done.output
    assert "windows a document" in done.stderr


def test_texts_too_few_are_refused_before_anything_is_measured(bench, nothing_measured, folder, tmp_path):
    for arguments in (
        ["peers", "--peers", "", "--plots", tmp_path],
        ["latency", "--documents", "short,mixed"],
        ["load", "--documents", "mixed"],
    ):
        done = bench(*arguments, "--text", folder)
        assert done.exit_code == 2, done.output
        assert "documents: BEIR folder small has 42 different ones" in done.stderr


def test_tables_are_printed_even_if_a_file_cannot_be_written(bench, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crossrank.cli.bench_output.write_file", full)
    done = bench("latency", *QUICK, "--json", tmp_path / "result.json")
    assert done.exit_code == 1
    assert "No space left on device" in done.stderr
    assert "pairs/s" in done.stdout


def test_a_file_is_written_whole_or_stays_as_it_was(bench, monkeypatch, tmp_path):
    written = tmp_path / "result.json"
    written.write_text("of an earlier run")

    def full(self, text, **_):
        with self.open("w") as stream:
            stream.write(text[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert bench("latency", *QUICK, "--json", written).exit_code == 1
    assert written.read_text() == "of an earlier run"


def test_missing_folders_of_output_files_are_made(bench, tmp_path):
    files = [tmp_path / "a" / "b" / "result.json", tmp_path / "c" / "report.md"]
    done = bench("latency", *QUICK, "--json", files[0], "--markdown", files[1])
    assert done.exit_code == 0, done.output
    assert all(file.is_file() for file in files)


def test_a_precision_that_the_model_lacks_is_reported_and_the_others_are_measured(bench, tmp_path):
    written = tmp_path / "result.json"
    done = bench("latency", *QUICK, "--precision", "fp16,fp32", "--json", written)
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
    installed = []

    def install(folder, names, **_):
        installed.append((folder, names))
        return [Installation(name, "") for name in names]

    def stop(*_, **__):
        raise InvalidInputError("nothing is measured here")

    monkeypatch.setattr("crossrank.benchmarks.peers.environments.install", install)
    monkeypatch.setattr("crossrank.benchmarks.harness.result.prepare", stop)
    (tmp_path / "flashrank").mkdir()
    (tmp_path / "flashrank" / "installed").touch()
    peers = "flashrank,flashrank-int8,fastembed,optimum"
    options = ["peers", "--peers-folder", tmp_path, "--checkpoint", checkpoint, "--plots", tmp_path]
    assert bench(*options, "--peers", peers).exit_code == 2
    assert installed == [(tmp_path, ["fastembed", "sentence-transformers-onnx"])]
    assert "nobody" in bench(*options, "--peers", "fastembed,nobody").stderr
    assert len(installed) == 1, "a comparison that is refused installs nothing"


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_an_embedded_models_checkpoint_is_found_in_a_source_checkout_by_its_weights(name, monkeypatch, tmp_path):
    checkout = Path(__file__).parents[2]
    monkeypatch.chdir(checkout / "tests")
    assert embedded_checkpoint(name) == checkout / "models" / name / "checkpoint"
    assert embedded_checkpoint("other") is None
    other = tmp_path / "models" / name / "checkpoint"
    other.mkdir(parents=True)
    (other / "model.safetensors").write_bytes(b"another model's weights")
    monkeypatch.chdir(tmp_path)
    assert embedded_checkpoint(name) is None
