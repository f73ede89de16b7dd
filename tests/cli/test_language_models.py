"""A language model on the command line: exported in its template, shown, and ranking by an instruction."""

from __future__ import annotations

import json

import pytest
from export_cases import write_pairs
from tiny_decoders import make_decoder

DOCUMENTS = "cold water in winter\nbread and butter\nthe river heats the engine\n"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("language-model")
    return root, make_decoder(root / "checkpoint", "qwen3", generates=True), write_pairs(root / "p.jsonl", queries=2)


def test_a_language_model_is_exported_shown_and_ranks_by_an_instruction(crossrank, exported):
    root, checkpoint, pairs = exported
    options = ("--precision", "fp32", "--template", "qwen3-reranker", "--verification-pairs", pairs)
    result = crossrank("export", checkpoint, root / "artifact", *options)
    assert result.exit_code == 0, result.output
    assert "AutoModelForCausalLM in the template of qwen3-reranker" in " ".join(result.output.split())

    assert "qwen3-reranker" in crossrank("inspect", root / "artifact").output

    def rank(*more):
        given = ("rerank", "-m", root / "artifact", "-q", "the river", "--format", "jsonl", *more)
        return {
            line["index"]: line["score"]
            for line in map(json.loads, crossrank(*given, stdin=DOCUMENTS).stdout.splitlines())
        }

    usual, instructed = rank(), rank("--instruction", "Find food")
    assert usual.keys() == instructed.keys() == {0, 1, 2}
    assert all(0 < score < 1 for score in usual.values())
    assert usual != instructed


def test_a_language_model_without_a_template_ends_in_one_line_that_names_the_option(crossrank, exported):
    root, checkpoint, _ = exported
    result = crossrank("export", checkpoint, root / "other")
    assert result.exit_code == 1
    assert "--template" in result.stderr


def test_an_instruction_for_a_model_that_takes_none_is_wrong_usage(crossrank):
    result = crossrank("rerank", "-q", "the river", "--instruction", "Find food", stdin=DOCUMENTS)
    assert result.exit_code == 2
    assert "takes none" in result.stderr
