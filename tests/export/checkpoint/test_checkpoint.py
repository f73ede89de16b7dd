"""Reading checkpoints: what is read from a good one, and why a bad one is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossrank.errors import InvalidInputError, ModelNotFoundError, UnsupportedCheckpointError
from crossrank.export.checkpoint.checkpoint import read_checkpoint
from crossrank.models.artifact import sha256_of

DEFAULT = Path(__file__).parents[3] / "models" / "default" / "checkpoint"


@pytest.fixture
def bert(tiny_checkpoint, tmp_path):
    """A copy of a tiny BERT that a test may spoil."""
    return Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "bert"))


@pytest.fixture
def two_labels(tiny_checkpoint, tmp_path):
    return Path(shutil.copytree(tiny_checkpoint("bert", num_labels=2), tmp_path / "two"))


def change(folder: Path, file: str = "config.json", **values: object) -> Path:
    """Set keys of a JSON file; None removes one."""
    path = folder / file
    content = json.loads(path.read_text()) if path.exists() else {}
    content |= values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder


def test_the_default_checkpoint_is_told_completely():
    checkpoint = read_checkpoint(DEFAULT, activation="identity")

    assert (checkpoint.source.kind, checkpoint.source.id, checkpoint.source.revision) == ("local", "checkpoint", "")
    assert checkpoint.source.weights_sha256 == {"model.safetensors": sha256_of(DEFAULT / "model.safetensors")}
    assert checkpoint.architecture.model_dump() == {
        "model_type": "bert",
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "vocab_size": 30522,
    }
    assert (checkpoint.num_labels, checkpoint.activation, checkpoint.pad_token_id) == (1, "identity", 0)
    # Its tokenizer.json has a truncation to 144 in it, which is not the model's limit.
    assert checkpoint.max_length == 512
    assert checkpoint.uses_segment_ids


def test_reading_loads_neither_torch_nor_transformers(tiny_checkpoint):
    code = (
        "import sys; from crossrank.export.checkpoint.checkpoint import read_checkpoint; "
        f"read_checkpoint({str(tiny_checkpoint('bert'))!r}); "
        "print(sorted({'torch', 'transformers', 'optimum', 'onnxruntime'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("family", "positions", "tokens"),
    [("roberta", 66, 64), ("xlm-roberta", 66, 64), ("bert", 64, 64), ("distilbert", 64, 64)],
)
def test_max_length_is_the_positions_there_are(family, positions, tokens, tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint(family), tmp_path / "copy"))
    change(folder, "tokenizer_config.json", model_max_length=10**30)
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] == positions
    assert read_checkpoint(folder).max_length == tokens


def test_max_length_is_the_tokenizers_where_that_is_less(bert):
    assert read_checkpoint(change(bert, "tokenizer_config.json", model_max_length=48)).max_length == 48


def test_max_length_as_stated(bert):
    assert read_checkpoint(bert, max_length=32).max_length == 32
    for wrong in (65, 7, 0, -1):
        with pytest.raises(InvalidInputError, match="max_length"):
            read_checkpoint(bert, max_length=wrong)


def test_a_model_without_a_table_of_positions_takes_as_many_tokens_as_are_stated(tiny_checkpoint, tmp_path):
    """DeBERTa-v3 clips the distances between tokens: `max_position_embeddings` limits nothing there."""
    folder = Path(shutil.copytree(tiny_checkpoint("deberta-v2"), tmp_path / "copy"))
    assert read_checkpoint(folder, max_length=200).max_length == 200
    change(folder, "tokenizer_config.json", model_max_length=100)
    assert read_checkpoint(folder).max_length == 64, "sentence-transformers cuts there, too"
    (folder / "modules.json").write_text(
        json.dumps([{"type": "sentence_transformers.base.modules.transformer.Transformer", "path": ""}])
    )
    change(folder, "config_sentence_transformers.json", model_type="CrossEncoder")
    change(folder, "sentence_bert_config.json", transformer_task="sequence-classification", max_seq_length=150)
    assert read_checkpoint(folder).max_length == 150, "its own setting it does not cap"
    change(folder, position_biased_input=True)
    assert read_checkpoint(folder).max_length == 64
    with pytest.raises(InvalidInputError, match="64 tokens the model has positions for"):
        read_checkpoint(folder, max_length=200)


def test_max_length_that_nothing_tells(bert):
    change(bert, max_position_embeddings=None)
    change(bert, "tokenizer_config.json", model_max_length=None)
    with pytest.raises(UnsupportedCheckpointError, match="--max-length"):
        read_checkpoint(bert)
    assert read_checkpoint(bert, max_length=40).max_length == 40


@pytest.mark.parametrize(
    ("values", "activation"),
    [
        ({}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "identity"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "sigmoid"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "identity"),
        (
            {
                "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
                "sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid",
            },
            "identity",
        ),
    ],
)
def test_activation_from_the_configuration(values, activation, bert):
    change(bert, **values)
    assert read_checkpoint(bert).activation == activation
    assert read_checkpoint(bert, activation="identity").activation == "identity"


def test_activation_assumed_is_noted_and_stated_is_not(bert):
    assert any("sigmoid" in note for note in read_checkpoint(bert).notes)
    assert read_checkpoint(bert, activation="sigmoid").notes == ()


def test_activation_from_sentence_transformers_own_file(bert):
    change(bert, "config_sentence_transformers.json", activation_fn="torch.nn.modules.linear.Identity")
    assert read_checkpoint(bert).activation == "identity"


def test_activation_from_the_catalogue(bert):
    folder = bert.rename(bert.parent / "ms-marco-MiniLM-L6-v2")
    checkpoint = read_checkpoint(folder)
    assert checkpoint.activation == "identity"
    assert any("catalogue" in note for note in checkpoint.notes)


def test_unknown_activation(bert):
    change(bert, sentence_transformers={"activation_fn": "torch.nn.modules.activation.Tanh"})
    with pytest.raises(UnsupportedCheckpointError, match=r"Tanh.*--activation"):
        read_checkpoint(bert)
    assert read_checkpoint(bert, activation="sigmoid").activation == "sigmoid"
    with pytest.raises(InvalidInputError, match="softplus"):
        read_checkpoint(bert, activation="softplus")


@pytest.mark.parametrize(
    ("names", "stated", "positive"),
    [
        ({"0": "LABEL_0", "1": "LABEL_1"}, None, 1),
        ({"0": "relevant", "1": "not_relevant"}, None, 0),
        ({"0": "irrelevant", "1": "RELEVANT"}, None, 1),
        ({"0": "entailment", "1": "not_entailment"}, None, 0),
        ({"0": "negative", "1": "something"}, None, 1),
        ({"0": "LABEL_0", "1": "LABEL_1"}, 0, 0),
        ({"0": "a", "1": "b"}, 1, 1),
        ({"0": "a", "1": "b"}, "a", 0),
        ({"0": "a", "1": "b"}, "1", 1),
    ],
)
def test_positive_label(names, stated, positive, two_labels):
    change(two_labels, id2label=names)
    checkpoint = read_checkpoint(two_labels, positive_label=stated)
    assert (checkpoint.num_labels, checkpoint.positive_label) == (2, positive)
    assert checkpoint.activation == "sigmoid"
    assert any("as the positive one" in note for note in checkpoint.notes) == (stated is None)


def test_positive_label_that_nothing_tells(two_labels):
    change(two_labels, id2label={"0": "a", "1": "b"})
    with pytest.raises(UnsupportedCheckpointError, match=r"0: 'a', 1: 'b'.*--positive-label"):
        read_checkpoint(two_labels)
    for wrong in (2, -1, "c", True):
        with pytest.raises(InvalidInputError, match=r"positive_label .*the index or the name of one: 0: 'a', 1: 'b'"):
            read_checkpoint(two_labels, positive_label=wrong)


def test_positive_label_of_a_single_one(bert):
    assert read_checkpoint(bert, positive_label=0).positive_label == 0
    with pytest.raises(InvalidInputError, match="single label"):
        read_checkpoint(bert, positive_label=1)


def test_softmax_over_two_labels_is_the_sigmoid_of_their_difference(two_labels):
    change(two_labels, sentence_transformers={"activation_fn": "torch.nn.modules.activation.Softmax"})
    assert read_checkpoint(two_labels).activation == "sigmoid"


@pytest.mark.parametrize(
    ("model_type", "values", "uses"),
    [
        ("bert", {}, True),
        ("bert", {"type_vocab_size": 1}, False),
        ("deberta-v2", {}, False),
        ("deberta-v2", {"type_vocab_size": 2}, True),
        ("roberta", {"type_vocab_size": 2}, False),
        ("modernbert", {}, False),
    ],
)
def test_segment_ids(model_type, values, uses):
    from crossrank.export.checkpoint.transformer_config import uses_segment_ids

    assert uses_segment_ids({"model_type": model_type, **values}, {}) is uses


def test_the_tokenizer_has_the_last_word_on_segment_ids():
    from crossrank.export.checkpoint.transformer_config import uses_segment_ids

    names = ["input_ids", "attention_mask"]
    assert not uses_segment_ids({"model_type": "bert", "type_vocab_size": 2}, {"model_input_names": names})


def test_licence_is_the_model_cards(bert):
    assert read_checkpoint(bert).source.licence == ""
    (bert / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n# Card\n")
    assert read_checkpoint(bert).source.licence == "apache-2.0"
    (bert / "README.md").write_text("---\nlicense: [a\n---\n")
    assert read_checkpoint(bert).source.licence == ""


REFUSALS = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), "cannot read"),
    "list as config": (lambda folder: (folder / "config.json").write_text("[]"), "JSON object"),
    "deep config": (lambda folder: (folder / "config.json").write_text("[" * 100_000), "nested too deeply"),
    "architectures as a text": (
        lambda folder: change(folder, architectures="BertForSequenceClassification"),
        "architectures 'BertFor.*list of class names",
    ),
    "auto_map as a text": (lambda folder: change(folder, auto_map="x.y"), "auto_map 'x.y'.*an object"),
    "modules as a number": (lambda folder: (folder / "modules.json").write_text("5"), "holds 5.*list of objects"),
    "modules as an object": (lambda folder: (folder / "modules.json").write_text('{"a": 1}'), "list of objects"),
    "modules of numbers": (lambda folder: (folder / "modules.json").write_text("[1]"), "list of objects"),
    "deep modules": (lambda folder: (folder / "modules.json").write_text("[" * 100_000), "nested too deeply"),
    "default prompt as a list": (
        lambda folder: change(
            folder, "config_sentence_transformers.json", prompts={"q": "query: "}, default_prompt_name=["q"]
        ),
        r"default_prompt_name \['q'\].*a name or null",
    ),
    "weight map as a list": (
        lambda folder: (
            (folder / "model.safetensors").unlink(),
            change(folder, "model.safetensors.index.json", weight_map=["a"]),
        ),
        r"weight_map \['a'\].*names the file of each weight",
    ),
    "no head": (lambda folder: change(folder, architectures=["BertModel"]), "no classification head"),
    "masked head": (lambda folder: change(folder, architectures=["BertForMaskedLM"]), "no classification head"),
    "no architectures": (lambda folder: change(folder, architectures=None), "no classification head"),
    "three labels": (
        lambda folder: change(folder, id2label={"0": "contradiction", "1": "entailment", "2": "neutral"}),
        "3 labels.*contradiction",
    ),
    "no labels": (lambda folder: change(folder, id2label=None, num_labels=0), "0 labels"),
    "language model": (
        lambda folder: change(folder, architectures=["Qwen3ForCausalLM"], model_type="qwen3"),
        "nothing says which.*--template",
    ),
    "decoder of another kind": (
        lambda folder: change(folder, architectures=["MistralForSequenceClassification"], model_type="mistral"),
        "decoder of the model type 'mistral'.*gemma, llama, qwen2, qwen3",
    ),
    "modernbert decoder": (
        lambda folder: change(
            folder, architectures=["ModernBertDecoderForSequenceClassification"], model_type="modernbert-decoder"
        ),
        "decoder",
    ),
    "other family": (
        lambda folder: change(folder, architectures=["FunnelForSequenceClassification"], model_type="funnel"),
        "funnel.*it can: bert",
    ),
    "code of its own": (
        lambda folder: change(folder, auto_map={"AutoModelForSequenceClassification": "m.Model"}),
        "--trust-remote-code",
    ),
    "tokenizer code": (
        lambda folder: change(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}),
        "--trust-remote-code",
    ),
    "no tokenizer": (
        lambda folder: [path.unlink() for path in folder.iterdir() if path.name not in NO_TOKENIZER],
        r"has no tokenizer: none of tokenizer\.json, vocab\*.*save_pretrained",
    ),
    "broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is no tokenizer"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
    "weights left to git": (lambda folder: (folder / "model.safetensors").write_bytes(POINTER), "git lfs pull"),
    "tokenizer left to git": (lambda folder: (folder / "tokenizer.json").write_bytes(POINTER), "git lfs pull"),
    "transformer in a folder": (
        lambda folder: (
            (folder / "0_Transformer").mkdir(),
            (folder / "config.json").rename(folder / "0_Transformer" / "config.json"),
        ),
        "no config.json; there is one in 0_Transformer: name that folder",
    ),
    "adapter": (
        lambda folder: ((folder / "model.safetensors").unlink(), change(folder, "adapter_config.json", r=8)),
        "adapter",
    ),
    "dense on top": (
        lambda folder: (folder / "modules.json").write_text(
            json.dumps([{"type": "sentence_transformers.models.Transformer"}, {"type": "a.models.Dense"}])
        ),
        "several modules.*Dense",
    ),
    "prompt": (
        lambda folder: change(
            folder, "config_sentence_transformers.json", prompts={"q": "query: "}, default_prompt_name="q"
        ),
        "prompt 'query: '",
    ),
}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 133\n"
NO_TOKENIZER = {"config.json", "model.safetensors"}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused(case, bert):
    spoil, message = REFUSALS[case]
    spoil(bert)
    with pytest.raises(UnsupportedCheckpointError, match=f"(?s){message}"):
        read_checkpoint(bert)


def test_code_of_its_own_with_consent_is_read(bert):
    change(bert, auto_map={"AutoModelForSequenceClassification": "m.Model"})
    (bert / "m.py").write_text("")
    assert read_checkpoint(bert, trust_remote_code=True).trust_remote_code


def test_a_single_transformer_module_is_no_obstacle(bert):
    (bert / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Transformer"}]))
    change(bert, "config_sentence_transformers.json", prompts={}, default_prompt_name=None)
    assert read_checkpoint(bert).num_labels == 1


def test_shards_are_all_hashed_and_a_missing_one_is_named(bert):
    weights = (bert / "model.safetensors").read_bytes()
    (bert / "model.safetensors").unlink()
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for shard in shards:
        (bert / shard).write_bytes(weights)
    index = {"weight_map": {"a": shards[1], "b": shards[0], "c": shards[1]}}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    assert list(read_checkpoint(bert).source.weights_sha256) == shards
    (bert / shards[1]).unlink()
    with pytest.raises(UnsupportedCheckpointError, match="00002-of-00002"):
        read_checkpoint(bert)


def test_a_slow_tokenizer_is_converted(bert):
    vocabulary = json.loads((bert / "tokenizer.json").read_text())["model"]["vocab"]
    (bert / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n")
    (bert / "tokenizer.json").unlink()
    assert read_checkpoint(bert).pad_token_id == 0


def test_pad_token_without_the_models_word(tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint("xlm-roberta"), tmp_path / "copy"))
    assert read_checkpoint(change(folder, pad_token_id=None)).pad_token_id == 1


@pytest.mark.parametrize("name", ["./nowhere", "a/b/c", "no where", "/nowhere"])
def test_neither_folder_nor_hub_id(name):
    with pytest.raises(ModelNotFoundError, match="hub id"):
        read_checkpoint(name)


def test_a_file_is_no_checkpoint(bert):
    with pytest.raises(InvalidInputError, match="--from-onnx"):
        read_checkpoint(bert / "model.safetensors")


def test_a_revision_of_a_folder(bert):
    with pytest.raises(InvalidInputError, match="revision"):
        read_checkpoint(bert, revision="main")
