"""Logits in hundreds and thousands, as of a regression on ratings: float32 has no more digits for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from export_cases import write_pairs

from crossrank.errors import FidelityError
from crossrank.export import export, import_onnx
from crossrank.export.verify.verification import Bounds


@pytest.fixture
def folder(tiny_checkpoint, tmp_path) -> Path:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "large"))
    weights = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name] * 1000
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_checkpoint_with_large_logits_is_exported_and_its_graph_imported(folder, tmp_path):
    options = {"precisions": ["fp32"], "verification_pairs": write_pairs(tmp_path / "pairs.jsonl", queries=2)}
    report = export(folder, tmp_path / "out", **options)
    assert 1e-4 < report.verification.max_abs_difference < 2e-2, "smaller ones would prove nothing"
    assert import_onnx(tmp_path / "out" / "fp32.onnx", folder, tmp_path / "again", **options).verification


def test_the_bound_grows_with_logits_beyond_ten_alone():
    assert Bounds().suiting([np.array([-10.0, 3.0])]).max_fp32_difference == Bounds().max_fp32_difference
    assert Bounds().suiting([np.array([1.0]), np.array([-500.0, 3.0])]).max_fp32_difference == pytest.approx(5e-3)


def test_scores_of_another_model_are_still_found_out(folder, tmp_path, monkeypatch):
    from crossrank.export.verify.reference import TorchReference

    right = TorchReference.logits
    monkeypatch.setattr(TorchReference, "logits", lambda *args, **options: right(*args, **options) * 1.0001)
    pairs = write_pairs(tmp_path / "pairs.jsonl", queries=2)
    with pytest.raises(FidelityError):
        export(folder, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
