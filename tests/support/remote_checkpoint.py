"""A tiny cross-encoder whose model is Python code of its own, which lies in `tests/data/remote_code`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tiny_checkpoints import MAX_LENGTH

CODE = Path(__file__).resolve().parents[1] / "data" / "remote_code"


def write_remote_checkpoint(source: Path, folder: Path) -> Path:
    """Write the checkpoint; transformers runs the code for that.

    Args:
        source: a checkpoint of another family, whose tokenizer it gets.
        folder: where to write.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder.mkdir()
    for path in source.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy(path, folder)
    for path in CODE.glob("*.py"):
        shutil.copy(path, folder)
    vocabulary = json.loads((source / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    config = {
        "model_type": "rotary-reranker",
        "architectures": ["RotaryRerankerForSequenceClassification"],
        "auto_map": {
            "AutoConfig": "configuration_rotary_reranker.RotaryRerankerConfig",
            "AutoModelForSequenceClassification": "modeling_rotary_reranker.RotaryRerankerForSequenceClassification",
        },
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": MAX_LENGTH,
        "pad_token_id": 1,
        "type_vocab_size": 0,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForSequenceClassification.from_config(
            AutoConfig.from_pretrained(folder, trust_remote_code=True), trust_remote_code=True
        )
        # Versions of transformers draw different numbers to begin with, so the seed comes after them.
        torch.manual_seed(12)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.ndim == 2:
                    weight.normal_(0.0, 0.5 if "embeddings" in name else 1.5 / weight.shape[1] ** 0.5)
                elif name.endswith("bias"):
                    weight.normal_(0.0, 0.02)
    model.save_pretrained(folder / "saved", safe_serialization=True)
    (folder / "saved" / "model.safetensors").rename(folder / "model.safetensors")
    shutil.rmtree(folder / "saved")
    return folder
