"""Tiny cross-encoders of several modules, in folders as sentence-transformers 6.2 writes them, and their scores.

The scores are computed step by step with torch's functions from the files, by none of crossrank's code.
"""

from __future__ import annotations

import itertools
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ETTIN = ("Pooling", "Dense", "LayerNorm", "Dense")
"""What follows the transformer of the ettin rerankers."""

_TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "LayerNorm": "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm",
    "Dropout": "sentence_transformers.sentence_transformer.modules.dropout.Dropout",
}


def write_modules(
    checkpoint: Path,
    folder: Path,
    *,
    kinds: Sequence[str] = ETTIN,
    pooling: str = "cls",
    labels: int = 1,
    activations: Sequence[str] = ("torch.nn.modules.activation.GELU",),
    scale: float = 1.0,
    activation_of_score: str = "torch.nn.modules.linear.Identity",
) -> Path:
    """Write a cross-encoder of modules around the transformer of a checkpoint, whose own head is left out.

    Args:
        checkpoint: of `make_checkpoint`.
        folder: where to write.
        kinds: the modules behind the transformer.
        pooling: of the Pooling.
        labels: outputs of the last Dense.
        activations: of every Dense but the last, in turn.
        scale: of the weights of each Dense, times the usual.
        activation_of_score: what `predict` puts over the logits.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModel

    folder.mkdir(parents=True)
    for path in checkpoint.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy(path, folder)
    model = AutoModel.from_pretrained(checkpoint)
    model.save_pretrained(folder, safe_serialization=True)
    size = getattr(model.config, "hidden_size", 64)
    generator = torch.Generator().manual_seed(7)

    def drawn(*shape: int, scale: float) -> Any:
        return torch.randn(*shape, generator=generator) * scale

    in_turn = itertools.cycle(activations)
    entries = [{"idx": 0, "name": "0", "path": "", "type": _TYPES["Transformer"]}]
    for index, kind in enumerate(kinds, start=1):
        path = f"{index}_{kind}"
        entries.append({"idx": index, "name": str(index), "path": path, "type": _TYPES[kind]})
        (folder / path).mkdir()
        last = index == len(kinds)
        if kind == "Pooling":
            config: dict[str, Any] = {"embedding_dimension": size, "pooling_mode": pooling, "include_prompt": True}
        elif kind == "LayerNorm":
            config = {"dimension": size}
            weights = {"norm.weight": 1 + drawn(size, scale=0.1), "norm.bias": drawn(size, scale=0.1)}
        elif kind == "Dense":
            outputs = labels if last else size
            config = {
                "in_features": size,
                "out_features": outputs,
                "bias": True,
                "activation_function": "torch.nn.modules.linear.Identity" if last else next(in_turn),
                "module_input_name": "sentence_embedding",
                "module_output_name": "scores" if last else "sentence_embedding",
            }
            weights = {
                "linear.weight": drawn(outputs, size, scale=scale * size**-0.5),
                "linear.bias": drawn(outputs, scale=0.1),
            }
        else:
            config = {"dropout": 0.1}
        write_json(folder / path / "config.json", config)
        if kind in ("Dense", "LayerNorm"):
            save_file(weights, folder / path / "model.safetensors")
    write_json(folder / "modules.json", entries)
    settings = {
        "__version__": {"pytorch": "2.13.0", "sentence_transformers": "6.2.0", "transformers": "5.24.0"},
        "activation_fn": activation_of_score,
        "default_prompt_name": None,
        "model_type": "CrossEncoder",
        "prompts": {},
    }
    write_json(folder / "config_sentence_transformers.json", settings)
    transformer = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
    }
    write_json(folder / "sentence_bert_config.json", transformer)
    return folder


def write_json(path: Path, content: object) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def scores_of_modules(folder: Path, pairs: list[tuple[str, str]], *, max_length: int) -> np.ndarray:
    """Logits (n, labels), one pair a forward pass."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).float().eval()
    entries = json.loads((folder / "modules.json").read_text(encoding="utf-8"))[1:]
    names = {"Identity": lambda x: x, "GELU": torch.nn.functional.gelu, "Tanh": torch.tanh, "ReLU": torch.relu}
    names |= {"SiLU": torch.nn.functional.silu, "Sigmoid": torch.sigmoid}
    rows = []
    with torch.inference_mode():
        for query, document in pairs:
            feeds = tokenizer([query], [document], truncation="only_second", max_length=max_length, return_tensors="pt")
            state = encoder(**feeds).last_hidden_state[0]
            for entry in entries:
                place, kind = folder / entry["path"], entry["type"].rpartition(".")[2]
                config = json.loads((place / "config.json").read_text(encoding="utf-8"))
                if kind == "Pooling":
                    state = state[0] if config["pooling_mode"] == "cls" else state.mean(dim=0)
                elif kind == "LayerNorm":
                    weights = load_file(place / "model.safetensors")
                    state = torch.layer_norm(state, state.shape, weights["norm.weight"], weights["norm.bias"])
                elif kind == "Dense":
                    weights = load_file(place / "model.safetensors")
                    state = weights["linear.weight"] @ state + weights["linear.bias"]
                    state = names[config["activation_function"].rpartition(".")[2]](state)
            rows.append(state.numpy())
    return np.stack(rows)
