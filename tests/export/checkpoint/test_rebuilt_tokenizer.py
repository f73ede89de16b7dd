"""Tokenizers are read as the installed transformers reads them: version 5 does it otherwise than older files say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from export_cases import write_pairs
from packaging.version import Version
from tiny_checkpoints import make_texts
from tokenizers import Tokenizer

from crossrank.export import import_onnx
from crossrank.export.checkpoint.complete_tokenizer import complete_tokenizer, read_tokenizer_settings
from crossrank.export.checkpoint.json_files import read_json
from crossrank.export.checkpoint.newer_config import installed_transformers
from crossrank.export.checkpoint.rebuilt_tokenizer import rebuild, rebuilding_notes

SAVED_BY_5 = Path(__file__).resolve().parents[2] / "data" / "newer_libraries"
TEXTS = [*make_texts(20), "  the  river\tflows\n", " x", "x ", "THE River", "naïve é", "a\u00a0b", "日本語で 42", ""]


@pytest.mark.parametrize(
    ("family", "class_name"), [("xlm-roberta", "XLMRobertaTokenizer"), ("deberta-v2", "DebertaV2Tokenizer")]
)
def test_what_version_4_wrote_is_read_as_what_version_5_made_of_it(family, class_name, tiny_checkpoint):
    if installed_transformers() >= Version("5"):
        pytest.skip("the file is written by the installed transformers, which has rebuilt it")
    older = Tokenizer.from_file(str(tiny_checkpoint(family) / "tokenizer.json"))
    newer = Tokenizer.from_file(str(SAVED_BY_5 / f"transformers-5-{family}" / "tokenizer.json"))
    before = [older.encode(text).ids for text in TEXTS]

    assert rebuild(older, class_name, {})

    expected = [newer.encode(text).ids for text in TEXTS]
    assert [older.encode(text).ids for text in TEXTS] == expected
    assert before != expected
    assert not rebuild(older, class_name, {})


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "modernbert"]
)
def test_ids_are_those_of_the_installed_transformers(family, tiny_checkpoint):
    from transformers import AutoTokenizer

    folder = tiny_checkpoint(family)
    settings = read_tokenizer_settings(folder, read_json(folder / "config.json"))
    tokenizer = complete_tokenizer(folder, settings)
    reference = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert tokenizer.encode(text, "second").ids == reference([text], ["second"])["input_ids"][0]


def test_a_tokenizer_that_is_read_otherwise_than_its_file_says_is_told():
    old, new = Version("4.57"), Version("5.24")
    assert any("5.24" in note for note in rebuilding_notes("XLMRobertaTokenizer", old, new))
    assert rebuilding_notes("XLMRobertaTokenizer", None, new)
    assert not rebuilding_notes("XLMRobertaTokenizer", new, new)
    assert not rebuilding_notes("XLMRobertaTokenizer", old, old)
    assert not rebuilding_notes("BertTokenizer", old, new)


def test_an_import_tells_it_too(tiny_checkpoint, raw_graph, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint("xlm-roberta"), tmp_path / "copy"))
    config = read_json(folder / "config.json") | {"transformers_version": "4.57.6"}
    (folder / "config.json").write_text(json.dumps(config))
    onnx.save(raw_graph("xlm-roberta"), tmp_path / "model.onnx")
    pairs = write_pairs(tmp_path / "pairs.jsonl", queries=2, documents=4)
    report = import_onnx(tmp_path / "model.onnx", folder, tmp_path / "out", verification_pairs=pairs)
    told = any("builds a XLMRobertaTokenizer anew" in note for note in report.notes)
    assert told == (installed_transformers() >= Version("5"))
