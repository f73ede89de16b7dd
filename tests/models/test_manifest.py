"""The manifest's schema: what it takes, what it refuses, and that writing and reading give the same."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crossrank.models.artifact_writer import write_manifest
from crossrank.models.manifest import SCHEMA_VERSION, Fidelity, Manifest

DIGEST = "0" * 64


def graph(**keys):
    return {
        "file": "fp32.onnx",
        "precision": "fp32",
        "opset": 17,
        "providers": ["cpu"],
        "inputs": ["input_ids"],
        "fidelity": {"reference": "pytorch", "queries": 1, "pairs": 1, "max_abs_logit_difference": 0.0},
        "reference_logits": [0.5],
    } | keys


def manifest(**keys):
    return {
        "name": "m",
        "crossrank_version": "0.1.0",
        "library_versions": {"onnx": "1.20"},
        "source": {"kind": "local", "id": "m", "weights_sha256": {"model.safetensors": DIGEST}},
        "architecture": {"model_type": "bert"},
        "max_length": 64,
        "pad_token_id": 0,
        "uses_segment_ids": True,
        "activation": "identity",
        "graphs": [graph()],
        "reference_pairs": [{"query": "q", "document": "d"}],
        "files": [
            {"path": "fp32.onnx", "size": 1, "sha256": DIGEST},
            {"path": "tokenizer.json", "size": 1, "sha256": DIGEST},
        ],
    } | keys


def file_record(path):
    return {"path": path, "size": 1, "sha256": DIGEST}


def read(raw):
    return Manifest.model_validate_json(json.dumps(raw))


def test_a_plain_manifest_is_read_with_its_defaults():
    parsed = read(manifest())
    assert (parsed.schema_version, parsed.tokenizer, parsed.num_labels, parsed.positive_label) == (
        SCHEMA_VERSION,
        "tokenizer.json",
        1,
        0,
    )
    assert parsed.graphs[0].batching == "padded"
    assert parsed.graphs[0].external_data == ()


def test_writing_and_reading_give_the_same_manifest_and_the_same_bytes(tmp_path):
    first = read(manifest(name="Zürich 日本語"))
    write_manifest(tmp_path, first)
    text = (tmp_path / "manifest.json").read_bytes()
    again = Manifest.model_validate_json(text)
    assert again == first
    write_manifest(tmp_path, again)
    assert (tmp_path / "manifest.json").read_bytes() == text


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "a/../../x", "..", "", "a\\b", "C:x", "./fp32.onnx", "a//b", "a/", "a/./b"],
)
@pytest.mark.parametrize("field", ["files", "graph", "external_data", "tokenizer"])
def test_a_path_that_is_not_plainly_inside_the_folder_is_refused(path, field):
    files = [*manifest()["files"], file_record(path)]
    raw = {
        "files": manifest(files=files),
        "graph": manifest(graphs=[graph(file=path)], files=files),
        "external_data": manifest(graphs=[graph(external_data=[path])], files=files),
        "tokenizer": manifest(tokenizer=path, files=files),
    }[field]
    with pytest.raises(ValidationError, match="leaves the artifact folder"):
        read(raw)


@given(st.text(alphabet="ab./\\:", max_size=8))
def test_whatever_path_is_taken_stays_in_the_folder(path):
    try:
        parsed = read(manifest(files=[*manifest()["files"], file_record(path)]))
    except ValidationError:
        return
    taken = parsed.files[-1].path
    assert taken == path
    assert not taken.startswith("/")
    assert ".." not in taken.split("/")
    assert not {"\\", ":"} & set(taken)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"colour": "red"}, "colour"),
        ({"graphs": []}, "graphs"),
        ({"graphs": [graph(colour="red")]}, "colour"),
        ({"graphs": [graph(precision="int4")]}, "precision"),
        ({"graphs": [graph(providers=["tpu"])]}, "providers"),
        ({"graphs": [graph(batching="triple")]}, "batching"),
        ({"graphs": [graph(), graph()]}, "one graph for each precision and provider"),
        ({"graphs": [graph(file="int8.onnx")]}, "'int8.onnx' has no size and sha256"),
        ({"graphs": [graph(external_data=["fp32.onnx.data"])]}, "'fp32.onnx.data' has no size and sha256"),
        ({"graphs": [graph(reference_logits=[])]}, "0 reference logits for 1 reference pairs"),
        ({"tokenizer": "other.json"}, "'other.json' has no size and sha256"),
        ({"files": [*manifest()["files"], file_record("fp32.onnx")]}, "recorded twice"),
        ({"files": [{"path": "fp32.onnx", "size": -1, "sha256": DIGEST}]}, "size"),
        ({"files": [{"path": "fp32.onnx", "size": 1, "sha256": "F" * 64}]}, "sha256"),
        ({"max_length": 7}, "max_length"),
        ({"pad_token_id": -1}, "pad_token_id"),
        ({"num_labels": 0}, "num_labels"),
        ({"positive_label": 2}, "positive_label"),
        ({"activation": "softmax"}, "activation"),
        ({"source": {"kind": "ftp", "id": "m", "weights_sha256": {}}}, "kind"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(keys, message):
    with pytest.raises(ValidationError, match=message):
        read(manifest(**keys))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_refused_before_it_is_written(value):
    with pytest.raises(ValidationError, match="finite number"):
        Fidelity(reference="fp32", queries=1, pairs=1, max_abs_logit_difference=value)
    with pytest.raises(ValidationError, match="finite number"):
        Manifest.model_validate(manifest(graphs=[graph(reference_logits=[value])]))


@pytest.mark.parametrize("key", ["name", "source", "graphs", "files", "max_length", "activation", "pad_token_id"])
def test_nothing_that_is_needed_may_be_left_out(key):
    raw = manifest()
    del raw[key]
    with pytest.raises(ValidationError, match=key):
        read(raw)


def test_one_precision_may_have_a_graph_for_each_provider():
    two = [graph(), graph(file="cuda.onnx", providers=["cuda"])]
    parsed = read(manifest(graphs=two, files=[*manifest()["files"], file_record("cuda.onnx")]))
    assert [item.file for item in parsed.graphs] == ["fp32.onnx", "cuda.onnx"]


def test_a_manifest_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        read(manifest()).name = "other"


@pytest.mark.parametrize(
    "keys",
    [
        {"num_labels": 0},
        {"num_labels": 2, "positive_label": 2},
        {"positive_label": 1},
        {"num_labels": 3, "positive_label": 1, "label_names": ["a", "b"]},
    ],
)
def test_a_label_that_is_none_of_the_labels_is_refused(keys):
    with pytest.raises(ValidationError, match="label"):
        read(manifest(**keys))
    assert read(manifest(num_labels=3, positive_label=2, label_names=["a", "b", "c"])).label_names == ("a", "b", "c")
