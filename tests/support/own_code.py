"""Scores as the authors of each language model compute them: left-padded batches, all logits, the last position.

Follows QwenLM/Qwen3-Embedding (README), mxbai-rerank 0.1 (mxbai_rerank_v2.py) and FlagEmbedding 1.3
(inference/reranker/decoder_only/base.py), and shares no code and no text with crossrank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

QWEN3_SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
QWEN3_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
MXBAI_TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. "
    "For each query-document pair, carefully analyze the semantic relationship between them, then provide your "
    "binary relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
)
GEMMA_PROMPT = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)


def own_scores(name: str, checkpoint: Path, pairs: Any, *, max_length: int, instruction: str | None = None) -> Any:
    """Logits (n,) before any activation; of Qwen3's two tokens the difference, which its softmax is made of."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(checkpoint).float().eval()
    rows = [own_ids(name, tokenizer, query, document, max_length, instruction) for query, document in pairs]
    batch = tokenizer.pad({"input_ids": rows}, padding=True, return_tensors="pt", pad_to_multiple_of=8)
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        logits = model(**batch, position_ids=positions).logits[:, -1, :]
    if name == "qwen3-reranker":
        both = logits[:, [tokenizer.convert_tokens_to_ids(token) for token in ("no", "yes")]]
        chances = torch.nn.functional.log_softmax(both.double(), dim=1)
        return np.asarray(chances[:, 1] - chances[:, 0])
    if name == "mxbai-rerank-v2":
        yes, no = (tokenizer(token, add_special_tokens=False)["input_ids"][0] for token in ("1", "0"))
        return np.asarray(logits[:, yes] - logits[:, no])
    return np.asarray(logits[:, tokenizer("Yes", add_special_tokens=False)["input_ids"][0]])


def own_ids(name: str, tokenizer: Any, query: str, document: str, limit: int, instruction: str | None) -> list[int]:
    """Token ids of one pair."""

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    if name == "qwen3-reranker":
        before = ids(f"<|im_start|>system\n{QWEN3_SYSTEM}<|im_end|>\n<|im_start|>user\n")
        after = ids("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
        text = f"<Instruct>: {instruction or QWEN3_INSTRUCTION}\n<Query>: {query}\n<Document>: {document}"
        room = limit - len(before) - len(after)
        return before + tokenizer(text, truncation="longest_first", max_length=room)["input_ids"] + after
    if name == "mxbai-rerank-v2":
        before = ids(
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\n"
        )
        after = ids("\n") + ids(MXBAI_TASK) + ids("<|im_end|>\n<|im_start|>assistant\n")
        asked = f"query: {query}"
        if instruction:
            asked = f"instruction: {instruction}\n{asked}"
        first, second = ids(asked), ids("\n") + ids(f"document: {document}")
    else:
        before, after = [], ids("\n") + ids(GEMMA_PROMPT)
        first, second = [tokenizer.bos_token_id, *ids(f"A: {query}")], ids("\n") + ids(f"B: {document}")
    room = limit - len(before) - len(after)
    # `prepare_for_model(truncation="only_second")`, which transformers 5 no longer has.
    return before + first + second[: room - len(first)] + after
