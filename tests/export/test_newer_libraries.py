"""Checkpoints saved by transformers 5 and sentence-transformers 6 score as those libraries score them.

They lie in `tests/data/newer_libraries`, with what the newer libraries gave and how they were made.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from export_cases import write_pairs
from packaging.version import Version

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import UnsupportedCheckpointError
from crossrank.export import export
from crossrank.export.checkpoint.checkpoint import read_checkpoint
from crossrank.export.checkpoint.newer_config import installed_transformers
from crossrank.models.artifact import Artifact

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

DATA = Path(__file__).resolve().parents[1] / "data" / "newer_libraries"
SAVED = sorted(path.parent.name for path in DATA.glob("*/expected.json"))


# What is translated or refused is what the installed library cannot read itself.
older_library = pytest.mark.skipif(
    (installed_transformers() or Version("0")) >= Version("5.24"), reason="the installed transformers reads these files"
)


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(DATA / name, folder / name))


def change(folder: Path, file: str, **keys: object) -> None:
    path = folder / file
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | keys))


@pytest.mark.parametrize("name", SAVED)
def test_scores_are_those_of_the_library_that_saved_the_checkpoint(name, tmp_path):
    expected = json.loads((DATA / name / "expected.json").read_text(encoding="utf-8"))

    report = export(
        DATA / name,
        tmp_path / "out",
        precisions=["fp32"],
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
    )

    with ArtifactReranker(report.artifact, provider="cpu", precision="fp32", activation="identity") as reranker:
        scores = reranker.score_pairs([tuple(pair) for pair in expected["pairs"]])
    np.testing.assert_allclose(scores, expected["logits"], atol=1e-4, rtol=0)
    manifest = Artifact.open(report.artifact).manifest
    assert manifest.verification == report.verification
    assert report.verification.reference.startswith(("transformers ", "sentence-transformers "))
    assert report.verification.probes >= 15
    assert report.verification.max_abs_difference <= 1e-4


@older_library
def test_a_tokenizer_class_no_installed_library_has_is_said_to_be_read_by_itself(tmp_path):
    report = export(
        DATA / "transformers-5-modernbert",
        tmp_path / "out",
        precisions=["fp32"],
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
    )
    assert "tokenizer.json by itself" in report.verification.reference
    assert "given global_rope_theta, local_rope_theta, global_attn_every_n_layers" in report.verification.reference
    assert any("rope_parameters, layer_types" in note for note in report.notes)


@older_library
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layer_types": ["sliding_attention", "full_attention"]}, r"layer_types .*install transformers>=5\.24"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 4.0}}}, "rope_parameters .*install"),
        ({"rope_parameters": {"full_attention": {"rope_theta": "high"}}}, "rope_parameters"),
        ({"rope_parameters": [1]}, "rope_parameters"),
        ({"attention_sinks": 4}, r"does not read attention_sinks .*Install transformers>=5\.24"),
    ],
)
def test_a_key_that_only_the_newer_library_reads_is_refused_with_the_version_to_install(keys, message, tmp_path):
    folder = copied("transformers-5-modernbert", tmp_path)
    change(folder, "config.json", **keys)
    with pytest.raises(UnsupportedCheckpointError, match=message):
        read_checkpoint(folder)


def test_keys_the_library_that_is_installed_wrote_itself_are_not_asked_about(tmp_path):
    folder = copied("transformers-5-modernbert", tmp_path)
    change(folder, "config.json", attention_sinks=4, transformers_version="4.48.0")
    assert read_checkpoint(folder).architecture.model_type == "modernbert"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"transformer_task": "feature-extraction"}, "transformer_task 'feature-extraction'"),
        ({"modality_config": {"message": {"method": "forward"}}}, "modality_config"),
        ({"processing_kwargs": {"text": {"add_special_tokens": False}}}, "add_special_tokens"),
        ({"processing_kwargs": {"common": {"stride": 4}}}, "stride"),
        ({"processing_kwargs": {"text": {"truncation": "only_first"}}}, "truncation 'only_first'"),
        ({"processing_kwargs": {"text": {"truncation": False}}}, "truncation False"),
        ({"processing_kwargs": {"text": 24}}, "object of objects"),
        ({"processing_kwargs": {"text": {"max_length": "24"}}}, "number of tokens"),
        ({"config_kwargs": {"num_labels": 2}}, "config_kwargs"),
        ({"model_kwargs": {"classifier_dropout": 0.5}}, r"model_kwargs\.classifier_dropout"),
        ({"never_heard_of": 1}, "never_heard_of"),
    ],
)
def test_settings_of_sentence_transformers_that_cannot_be_honoured_are_refused(keys, message, tmp_path):
    folder = copied("sentence-transformers-6-limit", tmp_path)
    change(folder, "sentence_bert_config.json", **keys)
    with pytest.raises(UnsupportedCheckpointError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("keys", "length"),
    [
        ({"processing_kwargs": {"common": {"max_length": 20}, "text": {"max_length": 24}}}, 20),
        ({"processing_kwargs": {}, "max_seq_length": 30}, 30),
        ({"processing_kwargs": {}, "max_seq_length": 30, "tokenizer_args": {"model_max_length": 28}}, 28),
        ({"processing_kwargs": {}}, 64),
        ({"processing_kwargs": {"text": {"max_length": 500}}}, 64),
    ],
)
def test_the_limit_is_the_one_sentence_transformers_cuts_to(keys, length, tmp_path):
    folder = copied("sentence-transformers-6-limit", tmp_path)
    change(folder, "sentence_bert_config.json", **keys)
    assert read_checkpoint(folder).max_length == length


def test_options_of_the_tokenizer_hold_where_it_has_no_json(tmp_path):
    folder = copied("sentence-transformers-6-processor", tmp_path)
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n", encoding="utf-8")
    by_json = read_checkpoint(folder).tokenizer
    (folder / "tokenizer.json").unlink()
    by_vocabulary = read_checkpoint(folder).tokenizer
    text = "The River carries Cold water"
    assert by_vocabulary.encode(text).ids == by_json.encode(text).ids
    assert by_json.encode(text).ids != by_json.encode(text.lower()).ids, "a tokenizer that lowers would prove nothing"


def test_without_modules_its_settings_are_not_read_and_a_limit_among_them_is_noted(tmp_path):
    """As `CrossEncoder` of sentence-transformers 6.2 does, which then reads the transformer's own files alone."""
    folder = copied("sentence-transformers-6-lower-case", tmp_path)
    (folder / "modules.json").unlink()
    checkpoint = read_checkpoint(folder)
    assert checkpoint.max_length == 64
    assert not checkpoint.sentence_transformers.lower_case
    assert any("max_seq_length 40" in note and "--max-length" in note for note in checkpoint.notes)


def test_with_modules_its_own_activation_comes_before_that_of_the_configuration(tmp_path):
    folder = copied("sentence-transformers-6-limit", tmp_path)
    change(folder, "config.json", sentence_transformers={"activation_fn": "torch.nn.modules.activation.Sigmoid"})
    assert read_checkpoint(folder).activation == "identity"
    (folder / "modules.json").unlink()
    assert read_checkpoint(folder).activation == "sigmoid"


def test_an_activation_that_is_code_is_not_taken_by_its_name(tmp_path):
    folder = copied("sentence-transformers-6-limit", tmp_path)
    change(folder, "config_sentence_transformers.json", activation_fn="my_module.Identity")
    checkpoint = read_checkpoint(folder)
    assert checkpoint.activation == "sigmoid"
    assert any("my_module.Identity" in note for note in checkpoint.notes)


def test_a_model_of_several_modules_is_refused_by_their_names_whatever_else_is_amiss(tmp_path):
    folder = copied("transformers-5-modernbert", tmp_path)
    kinds = [
        "base.modules.transformer.Transformer",
        "sentence_transformer.modules.pooling.Pooling",
        "base.modules.normalize.Normalize",
    ]
    modules = [{"idx": i, "type": f"sentence_transformers.{kind}"} for i, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    change(folder, "config.json", architectures=["ModernBertModel"])
    with pytest.raises(
        UnsupportedCheckpointError, match=r"several modules \(Transformer, Pooling, Normalize.*know .*Normalize"
    ):
        read_checkpoint(folder)


def test_quantized_weights_and_adapters_are_refused(tmp_path):
    folder = copied("transformers-5-roberta", tmp_path)
    change(folder, "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(UnsupportedCheckpointError, match=r"quantized weights .*gptq"):
        read_checkpoint(folder)
    change(folder, "config.json", quantization_config=None)
    (folder / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(UnsupportedCheckpointError, match="adapter"):
        read_checkpoint(folder)


def test_two_labels_that_do_not_exclude_each_other_are_refused(tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint("bert", num_labels=2), tmp_path / "copy"))
    change(folder, "config.json", problem_type="multi_label_classification")
    with pytest.raises(UnsupportedCheckpointError, match="independent of each other"):
        read_checkpoint(folder, positive_label=1)
    sigmoid = "torch.nn.modules.activation.Sigmoid"
    # A sigmoid of the difference of the logits would be another score, and another ranking, than `predict`'s.
    change(folder, "config.json", problem_type=None, sentence_transformers={"activation_fn": sigmoid})
    with pytest.raises(UnsupportedCheckpointError, match=r"sigmoid of each of its 2 labels.*--activation"):
        read_checkpoint(folder, positive_label=1)
    assert read_checkpoint(folder, positive_label=1, activation="sigmoid").activation == "sigmoid"


@pytest.mark.parametrize("tokens", [["<river>"], []])
@pytest.mark.parametrize("name", ["transformers-5-roberta", "transformers-5-modernbert"])
def test_the_list_that_version_5_writes_added_tokens_in_is_read_by_version_4_too(name, tokens, tmp_path):
    """In version 4 `extra_special_tokens` is an object, and its tokenizers fail on the list."""
    folder = copied(name, tmp_path)
    change(folder, "tokenizer_config.json", extra_special_tokens=tokens)
    report = export(
        folder, tmp_path / "out", precisions=["fp32"], verification_pairs=write_pairs(tmp_path / "pairs.jsonl")
    )
    expected = json.loads((DATA / name / "expected.json").read_text(encoding="utf-8"))
    with ArtifactReranker(report.artifact, provider="cpu", precision="fp32", activation="identity") as reranker:
        scores = reranker.score_pairs([tuple(pair) for pair in expected["pairs"]])
    np.testing.assert_allclose(scores, expected["logits"], atol=1e-4, rtol=0)
    tokenizer = read_checkpoint(folder).tokenizer
    assert ("<river>" in tokenizer.encode("a <river> b").tokens) == bool(tokens)
