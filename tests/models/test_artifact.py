"""Reading an artifact: a damaged or foreign one is refused, and the message names what is wrong."""

import json

import pytest
from tiny_artifacts import copy_artifact

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import ArtifactError
from crossrank.models.artifact import Artifact, is_artifact, record_files, sha256_of


@pytest.fixture
def artifact(tiny_artifact, tmp_path):
    """A copy to damage."""
    return copy_artifact(tiny_artifact, tmp_path / "copy")


def edit_manifest(folder, change):
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGES = {
    "missing": (lambda path: path.unlink(), "lacks the file {name!r}"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-7]), "{name!r}.*bytes"),
    "grown": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "{name!r}.*bytes"),
    "altered": (flip_a_byte, "{name!r}.*was altered"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "lacks the file {name!r}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["fp32.onnx", "tokenizer.json"])
def test_a_damaged_file_is_refused_by_name_before_it_is_used(artifact, name, damage):
    inflict, message = DAMAGES[damage]
    inflict(artifact / name)
    with pytest.raises(ArtifactError, match=message.format(name=name)):
        ArtifactReranker(artifact, precision="fp32")
    with pytest.raises(ArtifactError, match=message.format(name=name)):
        Artifact.open(artifact).verify()


def test_damage_to_a_graph_that_is_not_used_stops_nobody(artifact):
    flip_a_byte(artifact / "int8.onnx")
    with ArtifactReranker(artifact, precision="fp32") as reranker:
        assert len(reranker.score("the river", ["cold water"])) == 1
    with pytest.raises(ArtifactError, match=r"int8\.onnx"):
        ArtifactReranker(artifact, precision="int8")


def test_damaged_external_data_is_refused_by_name(artifact):
    (artifact / "fp32.onnx.data").write_bytes(b"weights")

    def record(raw):
        raw["files"].append({"path": "fp32.onnx.data", "size": 7, "sha256": sha256_of(artifact / "fp32.onnx.data")})
        raw["graphs"][0]["external_data"] = ["fp32.onnx.data"]

    edit_manifest(artifact, record)
    ArtifactReranker(artifact, precision="fp32").close()
    (artifact / "fp32.onnx.data").write_bytes(b"weightz")
    with pytest.raises(ArtifactError, match=r"'fp32\.onnx\.data'.*was altered"):
        ArtifactReranker(artifact, precision="fp32")


def test_an_undamaged_artifact_passes(artifact):
    opened = Artifact.open(str(artifact))
    opened.verify()
    opened.verify(["fp32.onnx"])
    assert opened.path("fp32.onnx") == artifact / "fp32.onnx"
    assert opened.manifest.name == "tiny-bert"


def test_a_file_that_the_manifest_does_not_record_cannot_be_verified(artifact):
    with pytest.raises(ArtifactError, match=r"records no file 'README\.md'"):
        Artifact.open(artifact).verify(["README.md"])


def test_files_that_the_manifest_does_not_record_do_no_harm(artifact):
    (artifact / "README.md").write_text("mine")
    Artifact.open(artifact).verify()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "cannot read"),
        (b"[" * 200_000, "is not JSON"),
        (b'{"schema_version": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"[]", "no schema_version"),
        (b"{}", "no schema_version"),
        (b'{"schema_version": "1"}', "no schema_version"),
        (b'{"schema_version": true}', "no schema_version"),
        (b'{"schema_version": 5}', "schema version 5.*reads up to 4.*update crossrank"),
        (b'{"schema_version": 0}', "schema version 0"),
        (b'{"schema_version": 1}', "does not fit.*name"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_foreign_manifest_is_refused_with_its_reason(artifact, content, message):
    (artifact / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        Artifact.open(artifact)
    assert str(artifact / "manifest.json") in str(caught.value)


def test_a_newer_schema_is_named_as_such_even_where_it_has_keys_of_its_own(artifact):
    def renew(raw):
        raw["schema_version"] = 7
        raw["shards"] = [1, 2]

    edit_manifest(artifact, renew)
    with pytest.raises(ArtifactError, match="schema version 7"):
        Artifact.open(artifact)


def test_unknown_keys_are_refused_by_name(artifact):
    edit_manifest(artifact, lambda raw: raw["graphs"][1].update(colour="red"))
    with pytest.raises(ArtifactError, match=r"graphs\.1\.colour"):
        Artifact.open(artifact)


@pytest.mark.parametrize("path", ["../x", "/etc/hostname"])
def test_a_path_that_leaves_the_folder_is_refused_though_the_file_is_there(artifact, path):
    (artifact.parent / "x").write_text("outside")
    edit_manifest(artifact, lambda raw: raw["files"].append({"path": path, "size": 7, "sha256": "0" * 64}))
    with pytest.raises(ArtifactError, match="leaves the artifact folder"):
        Artifact.open(artifact)


def test_a_folder_without_a_manifest_is_no_artifact_and_the_message_says_how_to_make_one(tmp_path):
    assert not is_artifact(tmp_path)
    with pytest.raises(ArtifactError, match=r"no manifest\.json.*crossrank export"):
        Artifact.open(tmp_path)


def test_a_file_is_no_artifact(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    assert not is_artifact(path)
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        Artifact.open(path)


def test_a_graph_is_found_by_precision_and_provider(artifact):
    opened = Artifact.open(artifact)
    assert opened.find_graph("int8", "cpu").file == "int8.onnx"
    assert opened.find_graph("int8", "cuda") is None
    assert opened.find_graph("fp16", "cpu") is None


def test_files_are_recorded_with_size_and_digest_in_order_of_their_paths(tmp_path):
    (tmp_path / "b").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    first, second = record_files(tmp_path, ["b", "a"])
    assert (first.path, first.size, first.sha256[:8]) == ("a", 0, "e3b0c442")
    assert (second.path, second.size, second.sha256[:8]) == ("b", 3, "ba7816bf")


def test_recording_a_file_that_is_not_there_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        record_files(tmp_path, ["a"])
