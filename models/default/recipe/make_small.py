"""Makes the start of a small model from the weights of a large one.

    python make_small.py LARGE OUT --layers 0 1 --hidden 256

The hidden space is projected on the main directions of the word embeddings; the attention heads and the inner units
with the largest weights are kept. The result ranks badly until it is trained; the word embeddings must be trained
with it (`train.py --no-freeze-words`). Does nothing where OUT is there already.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

LARGE_HEAD = 32


def strongest(groups: Tensor, count: int) -> Tensor:
    """Returns the numbers of the rows with the largest norm, in ascending order."""
    return groups.flatten(1).norm(dim=1).topk(count).indices.sort().values


def project_norm(source: nn.LayerNorm, target: nn.LayerNorm, basis: Tensor) -> None:
    """Fills a layer normalisation of the projected space."""
    target.weight.copy_((basis.square() * source.weight[:, None]).sum(0))
    target.bias.copy_(basis.T @ source.bias)


def project_layer(source: nn.Module, target: nn.Module, basis: Tensor, heads: int) -> None:
    """Fills an encoder layer from a larger one.

    Args:
        source: Layer of the large model.
        target: Layer of the small model.
        basis: Orthonormal columns, large hidden size by small hidden size.
        heads: Heads of the small model, of the size of the large one's.
    """
    old, new = source.attention, target.attention
    by_head = old.output.dense.weight.T.reshape(-1, LARGE_HEAD, old.output.dense.weight.shape[0])
    kept = strongest(by_head, heads)
    units = (kept[:, None] * LARGE_HEAD + torch.arange(LARGE_HEAD)).flatten()
    for name in ("query", "key", "value"):
        large, small = getattr(old.self, name), getattr(new.self, name)
        small.weight.copy_(large.weight[units] @ basis)
        small.bias.copy_(large.bias[units])
    new.output.dense.weight.copy_(basis.T @ old.output.dense.weight[:, units])
    new.output.dense.bias.copy_(basis.T @ old.output.dense.bias)
    project_norm(old.output.LayerNorm, new.output.LayerNorm, basis)
    inner = strongest(source.output.dense.weight.T, target.output.dense.weight.shape[1])
    target.intermediate.dense.weight.copy_(source.intermediate.dense.weight[inner] @ basis)
    target.intermediate.dense.bias.copy_(source.intermediate.dense.bias[inner])
    target.output.dense.weight.copy_(basis.T @ source.output.dense.weight[:, inner])
    target.output.dense.bias.copy_(basis.T @ source.output.dense.bias)
    project_norm(source.output.LayerNorm, target.output.LayerNorm, basis)


@torch.no_grad()
def make_small(large: nn.Module, layers: list[int], hidden: int) -> nn.Module:
    """Returns a small model made of some layers of a large one."""
    config = AutoConfig.for_model(**large.config.to_dict())
    config.num_hidden_layers = len(layers)
    config.hidden_size = hidden
    config.num_attention_heads = hidden // LARGE_HEAD
    config.intermediate_size = 4 * hidden
    small = AutoModelForSequenceClassification.from_config(config).float()
    old, new = large.bert.embeddings, small.bert.embeddings
    words = old.word_embeddings.weight
    basis = torch.linalg.eigh(words.T @ words).eigenvectors[:, -hidden:]
    new.word_embeddings.weight.copy_(words @ basis)
    new.position_embeddings.weight.copy_(old.position_embeddings.weight @ basis)
    new.token_type_embeddings.weight.copy_(old.token_type_embeddings.weight @ basis)
    project_norm(old.LayerNorm, new.LayerNorm, basis)
    for number, layer in zip(layers, small.bert.encoder.layer, strict=True):
        project_layer(large.bert.encoder.layer[number], layer, basis, config.num_attention_heads)
    small.bert.pooler.dense.weight.copy_(basis.T @ large.bert.pooler.dense.weight @ basis)
    small.bert.pooler.dense.bias.copy_(basis.T @ large.bert.pooler.dense.bias)
    small.classifier.weight.copy_(large.classifier.weight @ basis)
    small.classifier.bias.copy_(large.classifier.bias)
    return small


def main() -> None:
    """Runs the step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("large", type=Path, help="checkpoint of the large model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--hidden", type=int, default=256)
    options = parser.parse_args()
    if options.out.exists():
        print(f"{options.out} exists", flush=True)
        return
    large = AutoModelForSequenceClassification.from_pretrained(options.large).float()
    new = options.out.with_name("writing-" + options.out.name)
    make_small(large, options.layers, options.hidden).half().save_pretrained(new)
    AutoTokenizer.from_pretrained(options.large).save_pretrained(new)
    new.rename(options.out)


if __name__ == "__main__":
    main()
