"""What is refused of decoders, and for which reason."""

from __future__ import annotations

import json
import shutil

import onnx
import pytest
from tiny_decoders import make_decoder

from crossrank.errors import InvalidInputError, UnsupportedCheckpointError
from crossrank.export import export
from crossrank.export.from_onnx import import_onnx


def changed(checkpoint, folder, file="config.json", **values):
    shutil.copytree(checkpoint, folder)
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | values))
    return folder


def test_a_language_model_without_a_template_is_refused_with_the_way_to_state_one(decoder, tmp_path):
    with pytest.raises(UnsupportedCheckpointError, match="--template, one of qwen3-reranker") as refused:
        export(decoder("qwen3-reranker"), tmp_path / "artifact")
    assert "its scores would be wrong" in str(refused.value)


def test_a_language_model_with_the_name_of_the_catalogue_has_its_template(decoder, tmp_path, tiny_pairs):
    from crossrank.models.artifact import Artifact

    folder = tmp_path / "Qwen3-Reranker-0.6B"
    shutil.copytree(decoder("qwen3-reranker"), folder)

    report = export(folder, tmp_path / "artifact", precisions=["fp32"], verification_pairs=tiny_pairs)

    assert Artifact.open(report.artifact).manifest.template.name == "qwen3-reranker"
    assert Artifact.open(report.artifact).manifest.activation == "sigmoid"


@pytest.mark.parametrize(
    ("template", "options", "message"),
    [
        ("chat", {}, "one of qwen3-reranker"),
        ("qwen3-reranker", {"exporter": "torch"}, "writes itself"),
        ("qwen3-reranker", {"positive_label": 1}, "no labels"),
        ("qwen3-reranker", {"activation": "tanh"}, "not known"),
        ("qwen3-reranker", {"max_length": 641}, "more than the 640 tokens"),
    ],
)
def test_options_that_do_not_fit_are_refused(template, options, message, decoder, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        export(decoder("qwen3-reranker"), tmp_path / "artifact", template=template, **options)


def test_a_template_for_an_encoder_is_refused(tiny_checkpoint, tmp_path):
    with pytest.raises(InvalidInputError, match="templates are for decoders"):
        export(tiny_checkpoint("bert"), tmp_path / "artifact", template="qwen3-reranker")


def test_float16_alone_is_refused_and_beside_others_left_out_with_a_note(decoder, tmp_path, tiny_pairs):
    with pytest.raises(UnsupportedCheckpointError, match="on the CPU alone"):
        export(decoder("llama"), tmp_path / "artifact", precisions=["fp16"])

    report = export(decoder("llama"), tmp_path / "artifact", precisions=["fp32", "fp16"], verification_pairs=tiny_pairs)
    assert any(note.startswith("no fp16 graph was made") for note in report.notes)


@pytest.mark.parametrize(
    ("name", "template"), [("bge-reranker-v2-gemma", "qwen3-reranker"), ("llama-language-model", "mxbai-rerank-v2")]
)
def test_the_template_of_another_kind_of_model_is_refused(name, template, decoder, tmp_path):
    checkpoint = make_decoder(tmp_path / name, "llama", generates=True) if name.startswith("llama") else decoder(name)
    with pytest.raises(UnsupportedCheckpointError, match=r"no token '<\|im_start\|>'"):
        export(checkpoint, tmp_path / "artifact", template=template)


def test_an_answer_of_several_tokens_is_refused(decoder, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(decoder("qwen3-reranker"), folder)
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["merges"] = [merge for merge in state["model"]["merges"] if "".join(merge) != "yes"]
    (folder / "tokenizer.json").write_text(json.dumps(state))

    with pytest.raises(UnsupportedCheckpointError, match=r"tokens of 'yes'.*one expected"):
        export(folder, tmp_path / "artifact", template="qwen3-reranker")


def test_a_tokenizer_that_may_join_query_and_document_is_refused(decoder, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(decoder("qwen3-reranker"), folder)
    state = json.loads((folder / "tokenizer.json").read_text())
    state["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    (folder / "tokenizer.json").write_text(json.dumps(state))

    with pytest.raises(UnsupportedCheckpointError, match="cannot be tokenized apart"):
        export(folder, tmp_path / "artifact", template="qwen3-reranker")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'.*change with a text's length"),
        ({"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}, "max_length of at most 64"),
        ({"hidden_act": "relu"}, "the activation ReLU"),
        ({"auto_map": {"AutoModel": "m.Model"}}, "code cannot be followed"),
        ({"architectures": ["Qwen2Model"]}, "no head that scores"),
        ({"model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"]}, "no classification head"),
        (
            {"model_type": "mistral", "architectures": ["MistralForSequenceClassification"]},
            "gemma, llama, qwen2, qwen3",
        ),
    ],
)
def test_what_a_graph_would_not_compute_is_refused(values, message, decoder, tmp_path, tiny_pairs):
    # transformers derives the layers' kinds from the other keys where none are listed.
    changes = {"layer_types": None, **values} if "sliding_window" in values else values
    checkpoint = changed(decoder("qwen2"), tmp_path / "checkpoint", **changes)

    with pytest.raises(UnsupportedCheckpointError, match=message):
        export(checkpoint, tmp_path / "artifact", precisions=["fp32"], verification_pairs=tiny_pairs)


def test_a_decoder_with_room_for_more_is_given_a_length_that_fits_into_memory_and_says_so(decoder, tmp_path):
    from crossrank.export.checkpoint.checkpoint import read_checkpoint

    checkpoint = changed(decoder("qwen2"), tmp_path / "checkpoint", max_position_embeddings=32768)

    read = read_checkpoint(checkpoint)

    assert read.max_length == 2048
    assert any("positions for 32768: state max_length" in note for note in read.notes)
    assert read_checkpoint(checkpoint, max_length=9000).max_length == 9000


@pytest.mark.parametrize(
    ("values", "recognized"),
    [
        ({"model_type": "qwen3"}, "'qwen3'"),
        ({"model_type": "mistral", "architectures": ["MistralForSequenceClassification"]}, "'mistral'"),
        ({"model_type": "new", "architectures": ["NewForCausalLM"]}, "'new'"),
    ],
)
def test_the_onnx_file_of_a_decoder_is_refused(values, recognized, raw_graph, tiny_checkpoint, tmp_path, tiny_pairs):
    onnx.save(raw_graph("bert"), tmp_path / "model.onnx")
    folder = changed(tiny_checkpoint("bert"), tmp_path / "folder", **values)

    with pytest.raises(UnsupportedCheckpointError, match=f"a decoder .model type {recognized}"):
        import_onnx(tmp_path / "model.onnx", folder, tmp_path / "artifact", verification_pairs=tiny_pairs)


@pytest.mark.parametrize(
    ("family", "said"), [("qwen2", "joined without anything between"), ("llama", "tokenizer's own tokens alone")]
)
def test_a_classifier_without_a_template_says_how_its_pairs_are_joined(family, said, decoder_export):
    assert [note for note in decoder_export(family).notes if said in note and "--template" in note]


def test_a_template_leaves_nothing_to_say_of_how_pairs_are_joined(decoder_export):
    assert not [note for note in decoder_export("qwen3-reranker").notes if "no template" in note]
