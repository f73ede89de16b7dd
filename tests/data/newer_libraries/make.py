"""How the checkpoints beside this file were made: by transformers 5 and sentence-transformers 6, once.

Two environments take part, because the tiny tokenizers are built with transformers 4:

    python tests/data/newer_libraries/make.py base /tmp/base       # crossrank's own environment
    python tests/data/newer_libraries/make.py newer /tmp/base      # transformers 5.24, sentence-transformers 6.2

`expected.json` holds what the newer library gives for its pairs: logits of one pair a run.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
HERE = Path(__file__).resolve().parent
SMALL = {"hidden_size": 32, "intermediate_size": 64}
LONG = "every reader measures wind-tunnel results by hand and Zürich explains the quick answer " * 6
PAIRS = [
    ["the river", "Cold WATER heats the Library's catalogue in winter."],
    ["THE River", "cold water heats the library's catalogue in winter."],
    ["a small engine", " leading  spaces and\ttabs"],
    ["every reader", ""],
    ["", "bread and butter"],
    ["Python 3", "naïve questions 日本語で (again)"],
    ["42 unread letters", LONG],
    ["my neighbour's dog", LONG[: len(LONG) // 3]],
    ["boundary layers", LONG[: len(LONG) // 6]],
    ["bread", "[SEP] </s> [MASK]"],
]


def base(folder: Path) -> None:
    """Tiny checkpoints of the families, by transformers 4."""
    sys.path.insert(0, str(HERE.parents[1] / "support"))
    from tiny_checkpoints import make_checkpoint

    for family in ("bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert"):
        sizes = SMALL | ({"pooler_hidden_size": 32} if family == "deberta-v2" else {})
        make_checkpoint(family, folder / family, **sizes)


def newer(folder: Path) -> None:
    """The same, changed and saved by the newer libraries, with what those give."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    for family in ("roberta", "xlm-roberta", "deberta-v2", "modernbert"):
        options = {"add_prefix_space": True} if family == "roberta" else {}
        tokenizer = AutoTokenizer.from_pretrained(folder / family, **options)
        model = AutoModelForSequenceClassification.from_pretrained(folder / family, dtype="float32")
        if family == "modernbert":
            model.config.rope_parameters["full_attention"]["rope_theta"] = 100.0
            model.config.rope_parameters["sliding_attention"]["rope_theta"] = 20.0
        out = fresh(f"transformers-5-{family}")
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        if family == "modernbert":
            drop(out / "config.json", "global_attn_every_n_layers")
        expect(out, by_transformers(out))
    save_cross_encoder(
        folder, "limit", {"processing_kwargs": {"text": {"max_length": 24, "truncation": "only_second"}}}
    )
    save_cross_encoder(folder, "lower-case", {"max_seq_length": 40, "do_lower_case": True}, {"do_lower_case": False})
    save_cross_encoder(
        folder,
        "processor",
        {"processor_kwargs": {"model_max_length": 32, "do_lower_case": False}},
    )


def save_cross_encoder(folder: Path, name: str, settings: dict, tokenizer: dict | None = None) -> None:
    """A BERT saved by CrossEncoder, with more settings in its sentence_bert_config.json."""
    from sentence_transformers import CrossEncoder
    from torch import nn

    model = CrossEncoder(str(folder / "bert"), device="cpu", activation_fn=nn.Identity())
    out = fresh(f"sentence-transformers-6-{name}")
    model.save_pretrained(str(out))
    (out / "README.md").unlink(missing_ok=True)
    change(out / "sentence_bert_config.json", settings)
    change(out / "tokenizer_config.json", tokenizer or {})
    expect(out, by_cross_encoder(out))


def by_transformers(folder: Path) -> list[float]:
    """Logits by the Auto classes."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32").eval()
    logits = []
    for query, document in PAIRS:
        feeds = tokenizer([query], [document], truncation="only_second", max_length=64, return_tensors="pt")
        if model.config.model_type == "modernbert" or getattr(model.config, "type_vocab_size", 2) < 2:
            feeds.pop("token_type_ids", None)
        with torch.inference_mode():
            logits.append(model(**feeds).logits[0, 0].item())
    return logits


def by_cross_encoder(folder: Path) -> list[float]:
    """Logits by CrossEncoder.predict."""
    from sentence_transformers import CrossEncoder
    from torch import nn

    model = CrossEncoder(str(folder), device="cpu")
    return [float(model.predict([pair], activation_fn=nn.Identity())[0]) for pair in PAIRS]


def expect(folder: Path, logits: list[float]) -> None:
    """Write the expected logits with the versions that gave them."""
    from importlib.metadata import version

    versions = {name: version(name) for name in ("sentence-transformers", "tokenizers", "torch", "transformers")}
    content = {"versions": versions, "pairs": PAIRS, "logits": logits}
    (folder / "expected.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def fresh(name: str) -> Path:
    """An empty folder beside this file."""
    shutil.rmtree(HERE / name, ignore_errors=True)
    (HERE / name).mkdir()
    return HERE / name


def change(path: Path, keys: dict) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | keys, indent=2) + "\n", encoding="utf-8")


def drop(path: Path, key: str) -> None:
    """Take a key out of a JSON file, as a configuration made by transformers 5 alone lacks it."""
    content = json.loads(path.read_text())
    content.pop(key, None)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    {"base": base, "newer": newer}[sys.argv[1]](Path(sys.argv[2]))
