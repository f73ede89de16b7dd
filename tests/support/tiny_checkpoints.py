"""Tiny random cross-encoder checkpoints of every supported family, with the kind of tokenizer each has.

The checkpoints are made on the spot, so no test needs the network: two or three layers, hidden size 64,
four heads, 64 usable tokens. Weights are scaled by fan-in and every bias and norm is disturbed, so that
logits differ from pair to pair and a graph pass that loses a bias or confuses two positions shows in them.
The same call makes the same bytes on every run.
"""

from __future__ import annotations

import math
import random
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES: tuple[str, ...] = (
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "electra",
    "deberta-v2",
    "modernbert",
)
MAX_LENGTH = 64
"""Usable tokens of a pair in every checkpoint (the RoBERTa-like ones declare 66 positions for that)."""

_HIDDEN, _HEADS, _INTERMEDIATE = 64, 4, 128

_SUBJECTS = (
    "the river",
    "a small engine",
    "my neighbour's dog",
    "every reader",
    "Zürich",
    "the old café",
    "Python 3",
)
_VERBS = (
    "searches",
    "ranks",
    "doesn't forget",
    "heats",
    "reads",
    "measures",
    "re-orders",
    "carries",
    "explains",
)
_OBJECTS = (
    "long documents",
    "cold water",
    "the quick answer",
    "42 unread letters",
    "wind-tunnel results",
    "naïve questions",
    "bread and butter",
    "the library's catalogue",
    "boundary layers",
)
_ENDS = (
    "in winter.",
    "at 3.5% cost",
    "without noise!",
    "for ever?",
    "(again)",
    "on Monday;",
    "by hand",
    "日本語で",
)


def make_texts(count: int, *, seed: int = 0) -> list[str]:
    """Sentences of 5 to about 60 words, the same ones for the same seed."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        parts = [
            " ".join((rng.choice(_SUBJECTS), rng.choice(_VERBS), rng.choice(_OBJECTS), rng.choice(_ENDS)))
            for _ in range(rng.choice((1, 1, 2, 3, 6)))
        ]
        texts.append(" ".join(parts))
    return texts


def make_pairs(count: int, *, seed: int = 1) -> list[tuple[str, str]]:
    """Pairs of a short query and a document of varying length."""
    rng = random.Random(seed)
    documents = make_texts(count, seed=seed)
    return [(f"{rng.choice(_SUBJECTS)} {rng.choice(_OBJECTS)}", document) for document in documents]


def make_checkpoint(family: str, folder: Path, *, num_labels: int = 1, layers: int = 2, **config: Any) -> Path:
    """Write a checkpoint that AutoTokenizer and AutoModelForSequenceClassification load.

    Args:
        family: one of `FAMILIES`.
        folder: where to write; created if necessary.
        num_labels: outputs of the classification head.
        layers: transformer layers.
        **config: further keys of the family's configuration, such as `classifier_pooling="mean"`.

    Returns:
        `folder`.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _make_tokenizer(family)
    tokenizer.save_pretrained(folder)
    settings = _make_config(family, len(tokenizer), num_labels, layers, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(family.encode()))
        model = AutoModelForSequenceClassification.from_config(settings).eval()
        _scale_weights(model)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def _scale_weights(model: Any) -> None:
    """Draw all weights so that signals keep their size through the layers and logits spread by about one."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embeddings" in name and weight.ndim == 2:
                weight.normal_(0.0, 0.5)
            elif weight.ndim == 2:
                # Queries and keys get more, so that attention is far from uniform.
                gain = 2.0 if any(key in name for key in ("query", "key", "q_lin", "k_lin", "Wqkv")) else 1.0
                weight.normal_(0.0, gain / weight.shape[1] ** 0.5)
            elif name.endswith("bias"):
                weight.normal_(0.0, 0.1)
            else:  # the scales of layer norms
                weight.normal_(1.0, 0.1)
        head = model.classifier
        final = head if hasattr(head, "weight") else head.out_proj
        final.weight.mul_(3.0)


def _make_config(family: str, vocab_size: int, num_labels: int, layers: int, extra: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    usual = {
        "vocab_size": vocab_size,
        "hidden_size": _HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": _HEADS,
        "intermediate_size": _INTERMEDIATE,
        "max_position_embeddings": MAX_LENGTH,
        "num_labels": num_labels,
    }
    of_family: dict[str, dict[str, Any]] = {
        "bert": {"pad_token_id": 0},
        # With a different embedding size there is a projection after the embeddings.
        "electra": {"pad_token_id": 0, "embedding_size": 32},
        "roberta": _roberta_positions(),
        "xlm-roberta": _roberta_positions(),
        "distilbert": {
            "dim": _HIDDEN,
            "hidden_dim": _INTERMEDIATE,
            "n_layers": layers,
            "n_heads": _HEADS,
            "pad_token_id": 0,
        },
        # As in DeBERTa-v3: shared, normed, logarithmic relative positions, no segment embeddings.
        "deberta-v2": {
            "type_vocab_size": 0,
            "pad_token_id": 0,
            "relative_attention": True,
            "max_relative_positions": -1,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": "p2c|c2p",
            "position_biased_input": False,
            "pooler_hidden_size": _HIDDEN,
            "pooler_dropout": 0.0,
        },
        # A window of 16 and every second layer global: with two layers the last is local, with three global.
        "modernbert": {
            "pad_token_id": 3,
            "cls_token_id": 1,
            "sep_token_id": 2,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "local_attention": 16,
            "global_attn_every_n_layers": 2,
            "reference_compile": False,
            "norm_bias": False,
        },
    }
    settings = usual | of_family[family]
    if family == "distilbert":
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            del settings[key]
    return AutoConfig.for_model(family, **(settings | extra))


def _roberta_positions() -> dict[str, Any]:
    return {
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "type_vocab_size": 1,
        "max_position_embeddings": MAX_LENGTH + 2,
    }


def _make_tokenizer(family: str) -> Any:
    makers = {
        "bert": _wordpiece,
        "electra": _wordpiece,
        "distilbert": _wordpiece,
        "roberta": _roberta_bpe,
        "modernbert": _modernbert_bpe,
        "xlm-roberta": _xlm_roberta_unigram,
        "deberta-v2": _deberta_unigram,
    }
    return makers[family](family)


def _wordpiece(family: str) -> Any:
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer = normalizers.BertNormalizer(lowercase=True)
    words = _count_words(normalizer, pre_tokenizers.BertPreTokenizer())
    pieces = specials + list(_useful_pieces(words, 300, inner="##"))
    model = models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = _bert_template(tokenizer)
    classes = {
        "bert": transformers.BertTokenizerFast,
        "electra": transformers.ElectraTokenizerFast,
        "distilbert": transformers.DistilBertTokenizerFast,
    }
    return classes[family](tokenizer_object=tokenizer, model_max_length=MAX_LENGTH)


def _bert_template(tokenizer: Any) -> Any:
    from tokenizers import processors

    return processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )


def _byte_level(specials: list[str], normalizer: Any = None) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(make_texts(400), trainer)
    return tokenizer


def _roberta_bpe(family: str) -> Any:
    from tokenizers import processors
    from transformers import RobertaTokenizerFast

    tokenizer = _byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return RobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH)


def _modernbert_bpe(family: str) -> Any:
    from tokenizers import normalizers
    from transformers import PreTrainedTokenizerFast

    # ModernBERT's own tokenizer is of the generic class, with BERT's special tokens over byte-level BPE.
    tokenizer = _byte_level(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"], normalizers.NFC())
    tokenizer.post_processor = _bert_template(tokenizer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )


def _unigram(specials: list[str], unk: str) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    counts = _useful_pieces(_count_words(normalizer, metaspace), 300)
    total = sum(counts.values())
    pieces = [(token, 0.0) for token in specials if "mask" not in token.lower()]
    pieces += [(piece, math.log(count / total)) for piece, count in counts.items()]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=specials.index(unk)))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = metaspace
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(specials)
    return tokenizer


def _count_words(normalizer: Any, pre_tokenizer: Any) -> Counter[str]:
    return Counter(
        word for text in make_texts(400) for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))
    )


def _useful_pieces(words: Counter[str], size: int, *, inner: str = "") -> dict[str, int]:
    """The substrings that shorten the text most, and every character, with their counts.

    The WordPiece and Unigram trainers of `tokenizers` give different vocabularies from run to run.

    Args:
        words: words with their counts.
        size: how many pieces to keep.
        inner: prefix of the pieces that do not begin a word (WordPiece's "##").
    """
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + 8) + 1):
                counts[(inner if start else "") + word[start:end]] += count
    saved = {piece: count * (len(piece.removeprefix(inner)) - 1) for piece, count in counts.items()}
    chosen = sorted(counts, key=lambda piece: (saved[piece] > 0, -saved[piece], piece))[:size]
    return {piece: counts[piece] for piece in chosen}


def _xlm_roberta_unigram(family: str) -> Any:
    from tokenizers import processors
    from transformers import XLMRobertaTokenizerFast

    tokenizer = _unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<unk>")
    # Two separators between the texts and no segments: every type id is zero.
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return XLMRobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH)


def _deberta_unigram(family: str) -> Any:
    from transformers import DebertaV2TokenizerFast

    tokenizer = _unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"], "[UNK]")
    tokenizer.post_processor = _bert_template(tokenizer)
    return DebertaV2TokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH)
