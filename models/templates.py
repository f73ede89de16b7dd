"""The templates of the language models that are known as rerankers, and which of their tokens mean yes and no.

Texts are those of the models' own code: Qwen3-Reranker's of the repository QwenLM/Qwen3-Embedding (README and
examples/qwen3_reranker_transformers.py), mxbai-rerank-v2's of the package mxbai-rerank (mxbai_rerank_v2.py),
bge-reranker-v2-gemma's of FlagEmbedding (inference/reranker/decoder_only/base.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crossrank.models.manifest import Activation, Template

if TYPE_CHECKING:
    from collections.abc import Mapping

TemplateName = Literal["qwen3-reranker", "mxbai-rerank-v2", "bge-reranker-v2-gemma"]


@dataclass(frozen=True)
class KnownTemplate:
    """A template and how an answer becomes a score.

    Attributes:
        template: what an artifact keeps.
        answers: the token whose logit counts, and where there is one the token whose logit is subtracted.
        activation: what the model's own code applies to that.
        begins_with_bos: whether the tokenizer's first token goes before everything, where it has one that is not its
            padding token.
    """

    template: Template
    answers: tuple[str, ...]
    activation: Activation
    begins_with_bos: bool = False


TEMPLATES: Mapping[TemplateName, KnownTemplate] = {
    "qwen3-reranker": KnownTemplate(
        Template(
            name="qwen3-reranker",
            prefix=(
                (
                    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
                    'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
                ),
            ),
            instruction_text="<Instruct>: {instruction}\n",
            # The reference tokenizes instruction, query and document as one text. Before the space it may be cut.
            query="<Query>: {query}\n<Document>:",
            document=" {document}",
            suffix=("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",),
            instruction="Given a web search query, retrieve relevant passages that answer the query",
        ),
        answers=("yes", "no"),
        activation="sigmoid",
    ),
    "mxbai-rerank-v2": KnownTemplate(
        Template(
            name="mxbai-rerank-v2",
            prefix=(
                (
                    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
                    "<|im_end|>\n<|im_start|>user\n"
                ),
            ),
            instruction_text="instruction: {instruction}\n",
            query="query: {query}",
            # The reference tokenizes the document with the word before it. Before the space it may be cut.
            middle=("\n", "document:"),
            document=" {document}",
            suffix=(
                "\n",
                (
                    "You are a search relevance expert who evaluates how well documents match search queries. For each "
                    "query-document pair, carefully analyze the semantic relationship between them, then provide your "
                    "binary relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
                ),
                "<|im_end|>\n<|im_start|>assistant\n",
            ),
        ),
        answers=("1", "0"),
        activation="identity",
    ),
    "bge-reranker-v2-gemma": KnownTemplate(
        Template(
            name="bge-reranker-v2-gemma",
            query="A: {query}",
            middle=("\n",),
            document="B: {document}",
            suffix=(
                "\n",
                (
                    "Given a query A and a passage B, determine whether the passage contains an answer to the query by "
                    "providing a prediction of either 'Yes' or 'No'."
                ),
            ),
        ),
        answers=("Yes",),
        activation="identity",
        begins_with_bos=True,
    ),
}
