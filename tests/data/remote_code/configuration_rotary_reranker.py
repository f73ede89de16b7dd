"""The configuration of the modelling file beside it."""

from transformers import PretrainedConfig


class RotaryRerankerConfig(PretrainedConfig):
    model_type = "rotary-reranker"

    def __init__(
        self,
        vocab_size=300,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        rotary_base=500.0,
        type_vocab_size=0,
        **others,
    ):
        super().__init__(**others)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.max_position_embeddings = max_position_embeddings
        self.rotary_base = rotary_base
        self.type_vocab_size = type_vocab_size
