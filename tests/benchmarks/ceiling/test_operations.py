"""The number of operations of a pair, against counts made by hand."""

from __future__ import annotations

from crossrank.benchmarks.ceiling.operations import operations_per_pair
from crossrank.models.manifest import Architecture


def test_a_model_small_enough_to_count_by_hand():
    shape = Architecture(model_type="bert", hidden_size=2, intermediate_size=8, num_hidden_layers=3)
    operations = operations_per_pair(shape, tokens=5)
    # A layer: Q, K, V, output 4 x (2 x 2) = 16; feed-forward 2 x 8 + 8 x 2 = 32; together 48 multiply-adds a token.
    assert operations.full_layers == 2 * 5 * 48 * 2
    # K and V of the last layer: 2 x (2 x 2) = 8 a token.
    assert operations.last_layer_keys_values == 2 * 5 * 8
    # Q, output, feed-forward for one token: 48 - 8 = 40; pooler 4; classifier 2.
    assert operations.single_token == 2 * (40 + 4 + 2)
    # Queries times keys and probabilities times values: 5 x 5 x 2 each in two layers, 1 x 5 x 2 each in the last.
    assert operations.attention == 2 * (2 * 2 * 50 + 2 * 10)
    assert operations.total == 960 + 80 + 92 + 440


def test_pruning_saves_ten_of_twelve_units_of_the_last_layer():
    shape = Architecture(model_type="bert", hidden_size=384, intermediate_size=1536, num_hidden_layers=6)
    tokens = 4096
    operations = operations_per_pair(shape, tokens)
    matrices = operations.full_layers + operations.last_layer_keys_values + operations.single_token
    assert abs(matrices / (2 * tokens * 12 * 384**2 * 6) - (1 - 10 / 72)) < 1e-3
