"""The forward pass of a BERT encoder with attention written out.

On CPUs with bfloat16 matrix instructions the backward pass of PyTorch's fused attention takes half of a training
step; batched products are several times faster. The shapes of the batches are rounded (`pad`), because each new
shape makes the CPU library compile new kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

CLS, SEP = 101, 102


def has_fast_bfloat16() -> bool:
    """Tells whether this CPU multiplies bfloat16 faster than float32 (AMX, or AVX-512 with bfloat16)."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    checks = [getattr(torch.cpu, name, None) for name in names]
    return any(check is not None and check() for check in checks)


def encode(bert: nn.Module, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
    """Returns the last hidden state of the first token, which alone is scored, of a BertModel without dropout.

    In the last layer the other tokens are keys and values only, so their queries and what follows are not computed:
    a seventh of the work.
    """
    config, embeddings = bert.config, bert.embeddings
    batch, length = ids.shape
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    hidden = embeddings.word_embeddings(ids) + embeddings.token_type_embeddings(segments)
    hidden = embeddings.LayerNorm(hidden + embeddings.position_embeddings.weight[:length])
    penalty = ((1 - mask) * -1e4)[:, None, :].to(hidden.dtype).repeat_interleave(heads, 0)
    last = len(bert.encoder.layer) - 1
    for number, layer in enumerate(bert.encoder.layer):
        attention = layer.attention.self
        asked = hidden[:, :1] if number == last else hidden
        query, key, value = (
            part(states).view(batch, -1, heads, size).transpose(1, 2).reshape(batch * heads, -1, size)
            for part, states in ((attention.query, asked), (attention.key, hidden), (attention.value, hidden))
        )
        weights = torch.baddbmm(penalty, query, key.transpose(1, 2), alpha=size**-0.5).softmax(-1)
        context = torch.bmm(weights, value).view(batch, heads, -1, size).transpose(1, 2)
        context = layer.attention.output.dense(context.reshape(*asked.shape))
        hidden = layer.attention.output.LayerNorm(context + asked)
        inner = nn.functional.gelu(layer.intermediate.dense(hidden))
        hidden = layer.output.LayerNorm(layer.output.dense(inner) + hidden)
    return hidden[:, 0]


def score(model: nn.Module, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
    """Returns the logits of a one-label BertForSequenceClassification; the last layers run in float32."""
    first = encode(model.bert, ids, mask, segments).float()
    return model.classifier(torch.tanh(model.bert.pooler.dense(first)))[:, 0]


def set_precision(model: nn.Module, bfloat16: bool) -> nn.Module:
    """Puts the encoder and the embeddings of a model in bfloat16 (or float32), the last layers in float32."""
    kind = torch.bfloat16 if bfloat16 else torch.float32
    model.bert.encoder.to(kind)
    model.bert.embeddings.to(kind)
    return model


def pair_ids(query: Sequence[int], document: Sequence[int], longest: int, query_limit: int) -> tuple[list[int], int]:
    """Joins the tokens of a pair; returns them and the position where the document's segment starts."""
    query = list(query[: min(query_limit, longest - 4)])
    document = list(document[: longest - 3 - len(query)])
    return [CLS, *query, SEP, *document, SEP], len(query) + 2


def pad(
    pairs: Sequence[tuple[Sequence[int], int]], rows: int, step: int = 16, long: int = 144
) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
    """Groups pairs of similar length into batches of rounded shape.

    Args:
        pairs: Token ids and start of the second segment of each pair.
        rows: Rows of a batch; half of it for pairs longer than `long`.
        step: Lengths are rounded up to a multiple of this.
        long: Length above which batches have half of the rows.

    Yields:
        The positions of the batch's pairs, then ids, mask and segments, which may have unused rows at the end.
    """
    order = sorted(range(len(pairs)), key=lambda position: len(pairs[position][0]))
    start = 0
    while start < len(order):
        count = rows
        if len(pairs[order[min(start + count, len(order)) - 1]][0]) > long:
            count = max(1, rows // 2)
        part = order[start : start + count]
        start += count
        width = -(-len(pairs[part[-1]][0]) // step) * step
        ids, mask, segments = torch.zeros(3, count, width, dtype=torch.long)
        mask[:, 0] = 1
        for row, position in enumerate(part):
            tokens, second = pairs[position]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
            segments[row, second : len(tokens)] = 1
        yield part, ids, mask, segments
