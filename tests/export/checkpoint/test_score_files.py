"""The list of files that can change a score is whole, and the documentation names every one of them."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from crossrank.export.checkpoint.score_files import SCORE_FILES

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("file", SCORE_FILES, ids=lambda file: file.name)
def test_a_file_is_read_by_the_module_named_and_documented(file):
    assert importlib.import_module(f"crossrank.export.{file.by}")
    page = (ROOT / "docs" / "what-can-change-a-score.md").read_text(encoding="utf-8")
    for name in re.findall(r"[\w*]+\.(?:json|safetensors|bin|txt|model)", file.name):
        assert name in page


def test_every_json_file_that_the_export_opens_is_listed():
    listed = " ".join(file.name for file in SCORE_FILES)
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "export" / "checkpoint").glob("*.py")]
    opened = {name for source in sources for name in re.findall(r'"(\w+\.json)"', source)}
    assert opened >= {"config.json", "tokenizer_config.json", "modules.json"}
    assert not {name for name in opened if name not in listed}
