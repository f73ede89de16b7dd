"""`crossrank inspect`: what an artifact is, whether it is whole, and whether this machine agrees."""

import json

import pytest
from tiny_artifacts import copy_artifact

from crossrank.models.artifact import Artifact
from crossrank.models.embedded import EMBEDDED_MODELS
from crossrank.models.manifest import Manifest, PassRecord


def test_people_get_what_matters(crossrank, tiny_artifact):
    result = crossrank("inspect", tiny_artifact)
    assert (result.exit_code, result.stderr) == (0, "")
    for part in (
        "tiny-bert",
        "files verified",
        "64 tokens",
        "hidden 64",
        "fp32.onnx",
        "int8.onnx",
        "batches",
        "single",
    ):
        assert part in result.stdout


def test_programs_get_the_whole_manifest(crossrank, tiny_artifact):
    result = crossrank("inspect", "--json", tiny_artifact)
    document = json.loads(result.stdout)
    assert document["folder"] == str(tiny_artifact)
    assert Manifest.model_validate(document["manifest"], strict=False) == Artifact.open(tiny_artifact).manifest
    assert "checks" not in document
    assert (result.exit_code, result.stderr) == (0, "")


def test_the_reference_pairs_are_scored_again(crossrank, tiny_artifact):
    people = crossrank("inspect", "--check", tiny_artifact)
    assert people.exit_code == 0
    assert people.stdout.count("agrees") == 2
    programs = crossrank("inspect", "--check", "--json", tiny_artifact)
    checks = json.loads(programs.stdout)["checks"]
    assert [(check["file"], check["pairs"], check["passed"]) for check in checks] == [
        ("fp32.onnx", 3, True),
        ("int8.onnx", 3, True),
    ]


def test_a_machine_that_disagrees_ends_with_1_and_names_the_graph(crossrank, tiny_artifact, tmp_path):
    first, second = Artifact.open(tiny_artifact).manifest.graphs
    wrong = first.model_copy(update={"reference_logits": (0.0, 0.0, 0.0)})
    folder = copy_artifact(tiny_artifact, tmp_path / "wrong", graphs=(wrong, second))
    assert crossrank("inspect", folder).exit_code == 0
    people = crossrank("inspect", "--check", folder)
    assert people.exit_code == 1
    rows = {line.split()[0]: line for line in people.stdout.splitlines() if "DIFFERS" in line or "agrees" in line}
    assert "DIFFERS" in rows["fp32.onnx"]
    assert "agrees" in rows["int8.onnx"]
    programs = crossrank("inspect", "--check", "--json", folder)
    assert programs.exit_code == 1
    assert [check["passed"] for check in json.loads(programs.stdout)["checks"]] == [False, True]


def test_an_artifact_without_reference_pairs_cannot_be_said_to_agree(crossrank, tiny_artifact, tmp_path):
    graphs = tuple(
        graph.model_copy(update={"reference_logits": ()}) for graph in Artifact.open(tiny_artifact).manifest.graphs
    )
    folder = copy_artifact(tiny_artifact, tmp_path / "none", graphs=graphs, reference_pairs=())
    result = crossrank("inspect", "--check", folder)
    assert "agrees" not in result.stdout
    assert result.stdout.count("has no pairs to compare") == 2


@pytest.mark.parametrize("name", ["fp32.onnx", "int8.onnx", "tokenizer.json"])
def test_every_file_is_verified(crossrank, tiny_artifact, tmp_path, name):
    folder = copy_artifact(tiny_artifact, tmp_path / "copy")
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    result = crossrank("inspect", folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"'{name}'" in result.stderr
    assert "was altered" in result.stderr


def test_names_are_shown_as_they_are(crossrank, tiny_artifact, tmp_path):
    folder = copy_artifact(tiny_artifact, tmp_path / "a[/b] :smile:", name="[red]x[/red] [/y]")
    result = crossrank("inspect", folder)
    assert result.exit_code == 0, result.exception
    assert "a[/b] :smile:" in result.stdout
    assert "[red]x[/red] [/y]" in result.stdout


def test_what_the_passes_did_is_printed(crossrank, tiny_artifact, tmp_path):
    first, second = Artifact.open(tiny_artifact).manifest.graphs
    passes = (PassRecord(name="prune", changed=True, detail="12 nodes [left]"), PassRecord(name="fuse", changed=False))
    graphs = (first.model_copy(update={"passes": passes}), second)
    result = crossrank("inspect", copy_artifact(tiny_artifact, tmp_path / "copy", graphs=graphs))
    assert "fp32 prune: 12 nodes [left]" in result.stdout
    assert "fp32 fuse: no change" in result.stdout


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_an_embedded_model_goes_by_its_name(name, crossrank, tiny_artifact, monkeypatch):
    monkeypatch.setattr("crossrank.cli.inspect.embedded_artifact", {name: tiny_artifact}.__getitem__)
    assert json.loads(crossrank("inspect", "--json", name).stdout)["folder"] == str(tiny_artifact)


def test_a_graph_that_does_not_run_here_is_a_failure(crossrank, tiny_artifact, tmp_path):
    from tiny_artifacts import rewrite_manifest

    folder = copy_artifact(tiny_artifact, tmp_path / "copy")
    (folder / "fp32.onnx").write_bytes(b"junk")
    rewrite_manifest(folder)
    assert crossrank("inspect", folder).exit_code == 0
    result = crossrank("inspect", "--check", folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot load" in result.stderr
