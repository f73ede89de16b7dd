"""The configuration: options out of their range are refused by name, before anything is loaded."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from crossrank.engine.config import RerankerConfig
from crossrank.errors import InvalidInputError


@pytest.mark.parametrize("name", ["threads", "max_length", "max_batch_tokens"])
@pytest.mark.parametrize("value", [0, -1, 1.0, "2", True, False])
def test_a_number_that_is_no_count_is_refused(name, value):
    with pytest.raises(InvalidInputError, match=f"{name}=.*a whole number of at least 1 expected"):
        RerankerConfig(artifact=Path(), **{name: value})


@pytest.mark.parametrize("name", ["threads", "max_length", "max_batch_tokens"])
@pytest.mark.parametrize("value", [1, 10**9, None, np.int64(8)])
def test_counts_are_taken(name, value):
    taken = getattr(RerankerConfig(artifact=Path(), **{name: value}), name)
    assert taken == value
    assert type(taken) in {int, type(None)}


@pytest.mark.parametrize(
    ("option", "allowed"),
    [
        ({"provider": "tpu"}, "auto, cpu, cuda"),
        ({"provider": None}, "auto, cpu, cuda"),
        ({"precision": "int4"}, "auto, fp32, fp16, int8"),
        ({"activation": "softmax"}, "identity, sigmoid"),
        ({"activation": ["identity"]}, "identity, sigmoid"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(option, allowed):
    with pytest.raises(InvalidInputError, match=f"{next(iter(option))}=.*one of {allowed} expected"):
        RerankerConfig(artifact=Path(), **option)


def test_it_is_frozen_and_pickles():
    config = RerankerConfig(artifact=Path("/a"), provider="cpu", threads=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.threads = 3
    assert pickle.loads(pickle.dumps(config)) == config
