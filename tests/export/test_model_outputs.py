"""Settings of config.json that change the form of a model's outputs and none of its scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from export_cases import write_pairs

from crossrank.export import export


@pytest.mark.parametrize("exporter", [None, "torch"])
@pytest.mark.parametrize("keys", [{"return_dict": False}, {"torchscript": True}, {"output_hidden_states": True}])
def test_a_model_that_gives_its_outputs_in_another_form_is_exported(keys, exporter, tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "copy"))
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | keys))
    pairs = write_pairs(tmp_path / "pairs.jsonl", queries=2, documents=4)
    report = export(folder, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs, exporter=exporter)
    assert report.verification.max_abs_difference <= 1e-4
