"""Every file of a checkpoint that can change a score: what is read from it, and what makes an export refuse it.

Whatever is not listed here is not read. `docs/what-can-change-a-score.md` says the same at length, with the key of each
setting and the properties of imported graphs; a test checks that both agree.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreFile:
    """One file, or one pattern of files.

    Attributes:
        name: file name or pattern, relative to the checkpoint's folder.
        read: the keys or the content that scores depend on.
        refused: what ends an export.
        by: module of crossrank.export that reads it.
    """

    name: str
    read: str
    refused: str
    by: str


SCORE_FILES = (
    ScoreFile(
        "modules.json",
        "the kinds of the modules sentence-transformers runs, and their folders",
        "modules besides Transformer, Pooling, Dense, LayerNorm and Dropout: the refusal names them",
        "checkpoint.sentence_transformers",
    ),
    ScoreFile(
        "*_Pooling/config.json, *_Dense/config.json, *_LayerNorm/config.json, and model.safetensors beside them",
        "pooling_mode, sizes, bias, activation_function, the weights; where modules.json lists them",
        "poolings besides cls and mean, activations besides six of torch.nn, use_residual, missing weights",
        "checkpoint.head_modules",
    ),
    ScoreFile(
        "config_sentence_transformers.json",
        "model_type, activation_fn, prompts, default_prompt_name",
        "a prompt that applies by default; an activation besides identity, sigmoid and softmax of several labels",
        "checkpoint.sentence_transformers",
    ),
    ScoreFile(
        "sentence_bert_config.json, or a former name such as sentence_roberta_config.json",
        "transformer_task, modality_config, max_seq_length, do_lower_case, processing_kwargs, processor_kwargs or "
        "tokenizer_args; only where modules.json makes sentence-transformers read it",
        "a task that does not fit the modules, another modality than text, and keys that change scores and "
        "crossrank cannot honour",
        "checkpoint.sentence_transformers",
    ),
    ScoreFile(
        "config.json",
        "model_type, architectures, dimensions, positions, labels, problem_type, activation, and for ModernBERT what "
        "transformers 5 calls rope_parameters and layer_types",
        "decoders without a head or a template, unknown model types, three labels and more without a name, quantized "
        "weights, keys that only a newer transformers reads",
        "checkpoint.checkpoint",
    ),
    ScoreFile(
        "tokenizer.json",
        "all of it, but its truncation (length and strategy) and padding",
        "no tokenizer; truncation that keeps the end of a text",
        "checkpoint.complete_tokenizer",
    ),
    ScoreFile(
        "tokenizer_config.json",
        "tokenizer_class, do_lower_case, strip_accents, tokenize_chinese_chars, add_prefix_space, added tokens, "
        "model_max_length, model_input_names",
        "truncation_side left, split_special_tokens, code of its own unless trusted",
        "checkpoint.complete_tokenizer",
    ),
    ScoreFile(
        "special_tokens_map.json",
        "special tokens, where tokenizer_config.json does not list its added tokens",
        "nothing",
        "checkpoint.complete_tokenizer",
    ),
    ScoreFile(
        "added_tokens.json",
        "added tokens, where tokenizer_config.json does not list them",
        "nothing",
        "checkpoint.complete_tokenizer",
    ),
    ScoreFile(
        "vocab.txt, vocab.json, merges.txt, *.model",
        "by transformers, where there is no tokenizer.json",
        "a slow tokenizer that does not convert",
        "checkpoint.tokenizer",
    ),
    ScoreFile(
        "model.safetensors, pytorch_model.bin and their shards",
        "the weights, in float32",
        "missing or misshapen weights, NaN, pointers of Git LFS",
        "checkpoint.weights",
    ),
    ScoreFile(
        "adapter_config.json, adapter_model.*",
        "nothing",
        "an adapter, alone or beside the weights it may be merged into already",
        "checkpoint.weights",
    ),
    ScoreFile(
        "*.py",
        "their digests; transformers runs them where trust_remote_code is given",
        "code without consent, and code that is not there",
        "checkpoint.remote_code",
    ),
)
"""In the order in which they are examined: the first refusal is the reason that counts."""
