"""Weights that a checkpoint has and its class does not use: refused where the model was trained with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from export_cases import write_pairs
from packaging.version import Version

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export import export
from crossrank.export.checkpoint.newer_config import installed_transformers

if TYPE_CHECKING:
    from collections.abc import Callable

QUERY = "bert.encoder.layer.1.attention.self.query."


@pytest.fixture
def bring(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> Callable[..., object]:
    """A function `(family, names, **config) -> report` that exports a tiny checkpoint with more weights."""

    def run(family: str, names: list[str], **config: object) -> object:
        import torch
        from safetensors.torch import load_file, save_file

        folder = Path(shutil.copytree(tiny_checkpoint(family, **config), tmp_path / "copy"))
        weights = load_file(folder / "model.safetensors") | {name: torch.ones(4, 64) for name in names}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        pairs = write_pairs(tmp_path / "pairs.jsonl", queries=2, documents=4)
        return export(folder, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)

    return run


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("bert", [f"{QUERY}lora_A", f"{QUERY}lora_B"]),
        ("distilbert", ["distilbert.transformer.layer.0.output_adapter.down.weight"]),
        ("modernbert", ["model.layers.1.mlp.gate.weight"]),
        ("bert", ["classifier.dense.weight"]),
        ("roberta", ["classifier.norm.weight"]),
    ],
)
def test_weights_within_a_layer_or_the_head_that_nothing_uses_are_refused_by_their_names(family, names, bring):
    with pytest.raises(UnsupportedCheckpointError, match=f"does not use: {names[0]}.*merge an adapter"):
        bring(family, names)


def test_weights_of_another_head_and_tables_that_are_computed_do_no_harm(bring):
    names = ["cls.predictions.transform.dense.weight", "bert.embeddings.position_ids", "bert.pooler.extra"]
    assert bring("bert", [*names, "bert.encoder.layer.2.output.dense.weight", f"{QUERY}rotary.inv_freq"]).verification


def test_relative_positions_that_the_installed_transformers_no_longer_computes_are_refused(bring):
    """transformers 5 has absolute positions for every BERT, which such a checkpoint was not trained with."""
    installed = installed_transformers() or Version("0")
    if installed < Version("5"):
        assert bring("bert", [], position_embedding_type="relative_key_query").verification.max_abs_difference <= 1e-4
        return
    with pytest.raises(UnsupportedCheckpointError, match=r"distance_embedding\.weight"):
        bring("bert", ["bert.encoder.layer.0.attention.self.distance_embedding.weight"])
