"""A tokenizer folder read without transformers gives the token ids that transformers gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_checkpoints import FAMILIES, make_texts

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.complete_tokenizer import complete_tokenizer, read_tokenizer_settings
from crossrank.export.checkpoint.json_files import read_json

TEXTS = [
    *make_texts(6, seed=9),
    "The RIVER, Zürich's CAFÉ 中文 naïve",
    " leading  spaces",
    "",
    "a <river> [SEP] </s> b",
    "<RIVER>X",
]


def change(folder: Path, file: str, *without: str, **keys: object) -> None:
    content = json.loads((folder / file).read_text()) | keys
    (folder / file).write_text(json.dumps({key: value for key, value in content.items() if key not in without}))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"do_lower_case": False},
        {"do_lower_case": False, "strip_accents": True},
        {"strip_accents": False},
        {"tokenize_chinese_chars": False},
        {"add_prefix_space": True},
        {"additional_special_tokens": ["<river>"]},
        {"added_tokens_decoder": {"600": {"content": "<river>", "lstrip": True, "rstrip": True, "special": False}}},
    ],
    ids=lambda keys: "-".join(keys) or "as saved",
)
def test_ids_are_those_of_the_auto_tokenizer(family, keys, tiny_checkpoint, tmp_path):
    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(tiny_checkpoint(family), tmp_path / "copy"))
    change(folder, "tokenizer_config.json", **keys)

    ours = complete_tokenizer(folder, read_tokenizer_settings(folder, read_json(folder / "config.json")))

    theirs = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("special", [False, True])
def test_tokens_of_an_older_versions_file_are_added(family, special, tiny_checkpoint, tmp_path):
    """Before `added_tokens_decoder` a slow tokenizer wrote what it added to that file alone."""
    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(tiny_checkpoint(family), tmp_path / "copy"))
    more = {"additional_special_tokens": ["<river>"]} if special else {}
    change(folder, "tokenizer_config.json", "added_tokens_decoder", **more)
    tokens = json.loads((folder / "tokenizer.json").read_text())
    count = max([len(tokens["model"]["vocab"]), *(token["id"] + 1 for token in tokens["added_tokens"])])
    (folder / "added_tokens.json").write_text(json.dumps({"reader": count + 1, "<river>": count, "[MASK]": 4}))

    ours = complete_tokenizer(folder, read_tokenizer_settings(folder, read_json(folder / "config.json")))

    theirs = AutoTokenizer.from_pretrained(folder)
    for text in [*TEXTS, "every reader's<river>x"]:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_setting_that_is_not_there_means_its_default_and_not_what_tokenizer_json_has(
    family, tiny_checkpoint, tmp_path
):
    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(tiny_checkpoint(family), tmp_path / "copy"))
    change(folder, "tokenizer_config.json", "do_lower_case", "add_prefix_space", "tokenizer_class")
    content = json.loads((folder / "tokenizer.json").read_text())
    if family == "bert":
        content["normalizer"]["lowercase"] = False
    else:
        content["pre_tokenizer"]["add_prefix_space"] = True
    (folder / "tokenizer.json").write_text(json.dumps(content))

    ours = complete_tokenizer(folder, read_tokenizer_settings(folder, read_json(folder / "config.json")))

    theirs = AutoTokenizer.from_pretrained(folder)
    assert [ours.encode(text).ids for text in TEXTS] == theirs(TEXTS)["input_ids"]


def test_a_tokenizer_of_transformers_5_is_its_tokenizer_json(tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint("modernbert"), tmp_path / "copy"))
    change(folder, "tokenizer_config.json", tokenizer_class="TokenizersBackend", backend="tokenizers")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["pre_tokenizer"]["add_prefix_space"] = True
    (folder / "tokenizer.json").write_text(json.dumps(content))
    ours = complete_tokenizer(folder, read_tokenizer_settings(folder, {}))
    assert ours.encode("river").ids == ours.encode(" river").ids


@pytest.mark.parametrize(
    ("file", "keys", "message"),
    [
        ("tokenizer_config.json", {"truncation_side": "left"}, "truncation_side 'left'"),
        ("tokenizer_config.json", {"split_special_tokens": True}, "split_special_tokens"),
        (
            "tokenizer.json",
            {"truncation": {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}},
            "truncation_side 'left'",
        ),
    ],
)
def test_what_reads_texts_in_a_way_crossrank_does_not_is_refused(file, keys, message, tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "copy"))
    change(folder, file, **keys)
    with pytest.raises(UnsupportedCheckpointError, match=message):
        complete_tokenizer(folder, read_tokenizer_settings(folder, {}))


def test_a_tokenizer_that_transformers_cannot_read_is_not_said_to_be_missing(tiny_checkpoint, tmp_path):
    from crossrank.export.checkpoint.tokenizer import load_transformers_tokenizer

    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "copy"))
    change(folder, "tokenizer_config.json", added_tokens_decoder=[])
    with pytest.raises(UnsupportedCheckpointError, match=r"transformers cannot read the tokenizer of .*copy: .*items"):
        load_transformers_tokenizer(folder)


@pytest.mark.parametrize(
    "keys", [{"do_lower_case": "true"}, {"do_lower_case": None}, {"strip_accents": "no"}, {"tokenize_chinese_chars": 5}]
)
def test_a_setting_that_is_neither_true_nor_false_is_refused_by_its_name(keys, tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "copy"))
    change(folder, "tokenizer_config.json", **keys)
    ((name, value),) = keys.items()
    with pytest.raises(UnsupportedCheckpointError, match=rf"copy has {name} {value!r}; true or false expected"):
        complete_tokenizer(folder, read_tokenizer_settings(folder, {}))


@pytest.mark.parametrize("value", [0, 1])
def test_numbers_that_mean_false_and_true_are_taken(value, tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "copy"))
    change(folder, "tokenizer_config.json", do_lower_case=value)
    tokenizer = complete_tokenizer(folder, read_tokenizer_settings(folder, {}))
    assert (tokenizer.encode("River").ids == tokenizer.encode("river").ids) == bool(value)
