"""A cross-encoder that no library has: rotary positions, gated feed-forward, and a head over the first token.

As rerankers come whose code lies in their repository; `auto_map` of `config.json` names its classes.
"""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_rotary_reranker import RotaryRerankerConfig


def rotated(x, base):
    half = x.shape[-1] // 2
    positions = torch.arange(x.shape[-2], dtype=torch.float32, device=x.device)
    angles = positions[:, None] * base ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.base = config.rotary_base
        self.qkv = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)
        self.up = nn.Linear(size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, size)
        self.norm_attention = nn.LayerNorm(size)
        self.norm_output = nn.LayerNorm(size)

    def forward(self, x, mask):
        batch, length, size = x.shape
        parts = self.qkv(x).view(batch, length, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = rotated(parts[0], self.base), rotated(parts[1], self.base), parts[2]
        scores = query @ key.transpose(-1, -2) / (size // self.heads) ** 0.5 + mask
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, size)
        x = self.norm_attention(x + self.out(mixed))
        gate, up = self.up(x).chunk(2, dim=-1)
        return self.norm_output(x + self.down(nn.functional.gelu(gate) * up))


class RotaryRerankerForSequenceClassification(PreTrainedModel):
    config_class = RotaryRerankerConfig

    def __init__(self, config):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids, attention_mask):
        mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * -1e4
        x = self.norm(self.embeddings(input_ids))
        for layer in self.layers:
            x = layer(x, mask)
        return SequenceClassifierOutput(logits=self.classifier(x[:, 0]))
