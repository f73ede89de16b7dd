"""Tiny random decoders of every supported family, with the kind of tokenizer each has: classifiers and language models.

Made on the spot, as `tiny_checkpoints.py` makes encoders: two layers, hidden size 64, four heads of which two share
keys and values, `MAX_LENGTH` tokens.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from tiny_checkpoints import make_texts

if TYPE_CHECKING:
    from pathlib import Path

CLASSIFIERS: tuple[str, ...] = ("qwen2", "qwen3", "llama", "gemma")
LANGUAGE_MODELS: dict[str, str] = {
    "qwen3-reranker": "qwen3",
    "mxbai-rerank-v2": "qwen2",
    "bge-reranker-v2-gemma": "gemma",
}
"""The family of each template's model."""
MAX_LENGTH = 640
"""Positions; the templates alone take some 200 tokens of tokenizers this small."""

_WORDS = ("yes", "no", "Yes", "No", "1", "0")
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA = _QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|")


def make_decoder(folder: Path, family: str, *, generates: bool = False, layers: int = 2, **config: Any) -> Path:
    """Write a checkpoint that AutoTokenizer and the Auto classes of its head load.

    Args:
        folder: where to write; created if necessary.
        family: its model type.
        generates: whether it is a language model; else a classifier of one label.
        layers: transformer layers.
        **config: further keys of its configuration.

    Returns:
        `folder`.
    """
    import torch
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    if family not in CONFIG_MAPPING:
        pytest.skip(f"the installed transformers has no {family}")
    folder.mkdir(parents=True, exist_ok=True)
    size, special = _write_tokenizer(folder, family)
    settings = {
        "vocab_size": size,
        "hidden_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32 if family == "qwen3" else 16,
        "intermediate_size": 96,
        "max_position_embeddings": MAX_LENGTH,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
        **special,
    }
    if not generates:
        settings["num_labels"] = 1
    kind = AutoModelForCausalLM if generates else AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(f"{family} {generates}".encode()))
        model = kind.from_config(AutoConfig.for_model(family, **(settings | config))).eval()
        _scale_weights(model)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def _scale_weights(model: Any) -> None:
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_tokens" in name:
                weight.normal_(0.0, 0.5)
            elif name.startswith(("score", "lm_head")):
                weight.normal_(0.0, 3.0 / weight.shape[1] ** 0.5)
            elif weight.ndim == 2:
                gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.0
                weight.normal_(0.0, gain / weight.shape[1] ** 0.5)
            elif name.endswith("bias"):
                weight.normal_(0.0, 0.2)
            else:  # norms, which Gemma adds one to
                weight.normal_(0.0 if model.config.model_type == "gemma" else 1.0, 0.2)


def _write_tokenizer(folder: Path, family: str) -> tuple[int, dict[str, int]]:
    """Write `tokenizer.json` and its settings; gives the number of tokens and the ids that a configuration states."""
    makers = {"qwen2": _qwen, "qwen3": _qwen, "llama": _llama, "gemma": _gemma}
    tokenizer, settings = makers[family]()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 131072}))
    ids = {
        f"{name}_token_id": tokenizer.token_to_id(settings[f"{name}_token"])
        for name in ("pad", "bos", "eos")
        if settings.get(f"{name}_token")
    }
    if family in {"qwen2", "qwen3"}:
        ids.pop("bos_token_id", None)
    return tokenizer.get_vocab_size(), ids


def _texts() -> list[str]:
    return [*make_texts(300), *(word for word in _WORDS for _ in range(400))]


def _byte_level(regex: str, specials: list[str], **model: Any) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer


def _qwen() -> tuple[Any, dict[str, Any]]:
    from tokenizers import AddedToken, normalizers, processors

    tokenizer = _byte_level(_QWEN, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    # Qwen3 has tokens that are searched for in texts without being special.
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("<think>", "</think>")])
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "pad_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "bos_token": None,
        "unk_token": None,
        "add_bos_token": False,
        "add_prefix_space": False,
        "split_special_tokens": False,
    }
    return tokenizer, settings


def _llama() -> tuple[Any, dict[str, Any]]:
    from tokenizers import processors

    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>"]
    tokenizer = _byte_level(_LLAMA, specials, ignore_merges=True)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|>:0 $A:0 <|begin_of_text|>:1 $B:1",
                special_tokens=[("<|begin_of_text|>", 0)],
            ),
        ]
    )
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
        "pad_token": "<|finetune_right_pad_id|>",
    }
    return tokenizer, settings


def _gemma() -> tuple[Any, dict[str, Any]]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    # As sentencepiece: a space is a character like others, and words are not split off before the merges.
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=specials[:5], show_progress=False, max_token_length=8)
    tokenizer.train_from_iterator(_texts(), trainer)
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for token in specials[5:]:
        vocabulary.setdefault(token, len(vocabulary))
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos>:0 $A:0", pair="<bos>:0 $A:0 <bos>:1 $B:1", special_tokens=[("<bos>", 2)]
    )
    settings = {
        "tokenizer_class": "GemmaTokenizer",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
    }
    return tokenizer, settings
