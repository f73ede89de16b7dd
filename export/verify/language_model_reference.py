"""Scores by a language model as its own authors' code gives them: their texts, their way to tokens, all its logits.

Written after that code and not after crossrank's templates: `models/templates.py` says where the code is. Two
things are left out because they change no score: padding, and the half precision that some of it runs in.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.checkpoint.quiet import quiet_libraries
from crossrank.export.verify.reference_tokenizer import load_reference_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from crossrank.export.checkpoint.checkpoint import Checkpoint


class LanguageModelReference:
    """A language model, or a classifier made of one, in its template."""

    cuts_longer_text = False

    def __init__(self, checkpoint: Checkpoint, model: Any, *, instruction: str | None = None) -> None:
        """Load the checkpoint's tokenizer.

        Args:
            checkpoint: what is scored with.
            model: the same as a PyTorch model in float32.
            instruction: what to judge by; None for what the authors' code takes.

        Raises:
            UnsupportedCheckpointError: the tokenizer cannot be loaded.
        """
        assert checkpoint.template is not None  # noqa: S101  it is chosen for those
        self._checkpoint = checkpoint
        self._model = model
        self._kind = checkpoint.template.name
        self._instruction = instruction
        self._tokenizer, self._way = load_reference_tokenizer(checkpoint)

    @property
    def description(self) -> str:
        """The version of transformers, whose code was followed, and how texts become token ids."""
        version = importlib.metadata.version("transformers")
        head = "AutoModelForCausalLM" if self._checkpoint.answers else "AutoModelForSequenceClassification"
        return f"transformers {version} {head} in the template of {self._kind}, ids by {self._way}"

    def token_ids(self, pair: tuple[str, str]) -> tuple[list[int], list[int] | None]:
        """Token ids of one pair; there are no segments."""
        ids = {"qwen3-reranker": self._qwen3, "mxbai-rerank-v2": self._mxbai, "bge-reranker-v2-gemma": self._gemma}
        with quiet_libraries():
            return ids[self._kind](*pair), None

    def logits(
        self, pairs: Sequence[tuple[str, str]], *, advance: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        """The logit of each pair before any activation, float32 (n,); NaN where the checkpoint gives no number.

        Args:
            pairs: (query, document) pairs.
            advance: called with (pairs done, pairs in all) after each.
        """
        import torch

        scored = np.empty(len(pairs), dtype=np.float32)
        for index, pair in enumerate(pairs):
            ids, _ = self.token_ids(pair)
            with torch.inference_mode(), quiet_libraries():
                outputs = self._model(input_ids=torch.tensor([ids])).logits[0]
            scored[index] = self._score(outputs)
            if advance is not None:
                advance(index + 1, len(pairs))
        return scored

    def _score(self, outputs: Any) -> float:
        if not self._checkpoint.answers:
            one = outputs.tolist()
            positive = self._checkpoint.positive_label
            return float(one[0] if len(one) == 1 else one[positive] - one[1 - positive])
        last = outputs[-1]
        if self._kind == "qwen3-reranker":
            # The authors take the softmax of both, of which the logarithm's difference is this.
            both = [last[self._tokenizer.convert_tokens_to_ids(word)] for word in ("yes", "no")]
            return float(both[0] - both[1])
        if self._kind == "mxbai-rerank-v2":
            return float(last[self._ids("1")[0]] - last[self._ids("0")[0]])
        return float(last[self._ids("Yes")[0]])

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _qwen3(self, query: str, document: str) -> list[int]:
        before = self._ids(
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
            'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        )
        after = self._ids("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
        task = self._instruction or "Given a web search query, retrieve relevant passages that answer the query"
        text = self._tokenizer(
            f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {document}",
            truncation="longest_first",
            max_length=self._checkpoint.max_length - len(before) - len(after),
        )["input_ids"]
        return [*before, *text, *after]

    def _mxbai(self, query: str, document: str) -> list[int]:
        before = self._ids(
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\n"
        )
        task = self._ids(
            "You are a search relevance expert who evaluates how well documents match search queries. For each "
            "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
            "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
        )
        after = self._ids("<|im_end|>\n<|im_start|>assistant\n")
        separator = self._ids("\n")
        asked = f"query: {query}"
        if self._instruction:
            asked = f"instruction: {self._instruction}\n{asked}"
        room = self._checkpoint.max_length - len(before) - len(separator) - len(task) - len(after)
        texts = (self._ids(asked), [*separator, *self._ids(f"document: {document}")])
        return [*before, *self._cut(*texts, room), *separator, *task, *after]

    def _gemma(self, query: str, document: str) -> list[int]:
        tokenizer = self._tokenizer
        separator = self._ids("\n")
        prompt = self._ids(
            "Given a query A and a passage B, determine whether the passage contains an answer to the query by "
            "providing a prediction of either 'Yes' or 'No'."
        )
        asked = self._ids(f"A: {query}")
        if tokenizer.bos_token_id is not None and tokenizer.bos_token_id != tokenizer.pad_token_id:
            asked = [tokenizer.bos_token_id, *asked]
        room = self._checkpoint.max_length - len(separator) - len(prompt)
        return [*self._cut(asked, [*separator, *self._ids(f"B: {document}")], room), *separator, *prompt]

    @staticmethod
    def _cut(query: list[int], document: list[int], room: int) -> list[int]:
        """Both, the document cut where they are too long."""
        return [*query, *document[: max(room - len(query), 0)]]
