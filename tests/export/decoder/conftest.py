"""Tiny decoders and their artifacts, made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from export_cases import write_pairs
from tiny_decoders import LANGUAGE_MODELS, make_decoder

from crossrank.export import export

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def decoder(tmp_path_factory) -> Callable[[str], Path]:
    """A function `(name) -> checkpoint`: of a classifier's family, or of a template's language model."""
    root, made = tmp_path_factory.mktemp("decoders"), {}

    def get(name):
        if name not in made:
            family = LANGUAGE_MODELS.get(name, name)
            made[name] = make_decoder(root / name, family, generates=name in LANGUAGE_MODELS)
        return made[name]

    return get


@pytest.fixture(scope="session")
def decoder_export(decoder, tmp_path_factory):
    """A function `(name) -> report` of an export in fp32 and int8."""
    root, made = tmp_path_factory.mktemp("artifacts"), {}
    pairs = write_pairs(root / "pairs.jsonl", queries=2)

    def get(name):
        if name not in made:
            made[name] = export(
                decoder(name),
                root / name,
                template=name if name in LANGUAGE_MODELS else None,
                precisions=("fp32", "int8"),
                verification_pairs=pairs,
                # Random weights rank at random, so eight bits move more than they do in a trained model.
                min_kendall_tau=0.5,
            )
        return made[name]

    return get


@pytest.fixture(scope="session")
def tiny_pairs(tmp_path_factory) -> Path:
    """Verification pairs, few enough for tiny checkpoints to score in no time."""
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", queries=2, documents=4)
