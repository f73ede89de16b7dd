"""`crossrank pull` and `crossrank export --file`: what they ask for, and what they say of what they made."""

import json
from pathlib import Path

import pytest

from crossrank.export.hub.ready_graph import ReadyGraph


@pytest.fixture
def resolved(tiny_artifact, monkeypatch):
    """Replace the resolution of names by one that finds the tiny artifact; the list has the calls."""
    calls = []

    def resolve_model(model, *, progress, **options):
        calls.append((model, options))
        return tiny_artifact

    monkeypatch.setattr("crossrank.resolve.resolve_model", resolve_model)
    return calls


def test_every_option_of_pull_reaches_the_resolution(crossrank, resolved):
    options = ("--file", "onnx/model.onnx", "--revision", "v1", "--precision", "fp32", "--provider", "cpu", "--update")
    assert crossrank("pull", "owner/name").exit_code == 0
    assert crossrank("pull", "owner/name", *options, "--trust-remote-code").exit_code == 0
    asked = {"provider": "auto", "precision": "auto", "file": None, "revision": None, "positive_label": None}
    assert resolved[0] == ("owner/name", asked | {"update": False, "trust_remote_code": False})
    asked |= {"provider": "cpu", "precision": "fp32", "file": "onnx/model.onnx", "revision": "v1"}
    assert resolved[1] == ("owner/name", asked | {"update": True, "trust_remote_code": True})


def test_digits_may_be_a_labels_name_so_they_are_passed_on_as_text(crossrank, resolved):
    assert crossrank("pull", "owner/name", "--positive-label", "1").exit_code == 0
    assert resolved[0][1]["positive_label"] == "1"


def test_pull_says_what_was_made_of_what(crossrank, resolved, tiny_artifact):
    text = crossrank("pull", "owner/name").stdout
    for part in (str(tiny_artifact), "made of", "compared with", "rerank -m owner/name"):
        assert part in text
    assert f"rerank -m {tiny_artifact}" in crossrank("pull", "owner/name", "--file", "model.onnx").stdout
    printed = json.loads(crossrank("pull", "owner/name", "--json").stdout)
    assert printed["folder"] == str(tiny_artifact)
    assert printed["manifest"]["graphs"]


def test_the_embedded_model_is_there_already(crossrank):
    result = crossrank("pull", "default")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "rerank -m default" in result.stdout


def test_what_cannot_be_had_is_reported_in_one_line(crossrank, monkeypatch, tmp_path):
    monkeypatch.setenv("CROSSRANK_CACHE", str(tmp_path))
    result = crossrank("pull", "owner/name", "--provider", "cpu")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("crossrank: 'owner/name' was not exported on this machine yet")


def test_export_takes_a_file_of_a_repository_or_folder(crossrank, monkeypatch):
    imported = []
    graph = ReadyGraph(Path("cache/onnx/model.onnx"), Path("cache"), "owner/name", "a" * 40, {}, {})

    def find_ready_graph(source, file, **options):
        imported.append((source, file, options))
        return graph

    def import_onnx(*arguments, **options):
        imported.append((arguments, options["fetched"]))
        raise SystemExit(0)

    monkeypatch.setattr("crossrank.export.hub.ready_graph.find_ready_graph", find_ready_graph)
    monkeypatch.setattr("crossrank.export.from_onnx.import_onnx", import_onnx)
    crossrank("export", "owner/name", "out", "--file", "onnx/model.onnx", "--revision", "v1")
    assert imported == [
        ("owner/name", "onnx/model.onnx", {"revision": "v1", "show_progress": True}),
        ((graph.file, graph.folder, Path("out")), graph),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "owner/name", "out", "--file", "model.onnx", "--trust-remote-code"),
        ("export", "out", "--from-onnx", "model.onnx", "--tokenizer", "folder", "--file", "model.onnx"),
    ],
)
def test_options_that_do_not_go_with_a_file_are_refused(crossrank, arguments):
    result = crossrank(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_folder_without_the_file_says_what_it_has(crossrank, tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model_O4.onnx").write_bytes(b"")
    result = crossrank("export", tmp_path, tmp_path / "out", "--file", "onnx/model.onnx")
    assert result.exit_code == 1
    assert "has no ONNX file 'onnx/model.onnx'; it has onnx/model_O4.onnx" in result.stderr
