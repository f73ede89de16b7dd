"""Checkpoints whose weights hold NaN: refused where it meets the caller's pairs, noted where it meets a few probes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_cases import write_pairs
from tiny_checkpoints import MAX_LENGTH

from crossrank import Reranker
from crossrank.engine.text.encoding import PairEncoder
from crossrank.errors import UnsupportedCheckpointError
from crossrank.export import export, import_onnx
from crossrank.export.verify.probes import make_probes

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
NAN = float("nan")
PADDING = 0
"""The padding token, which every padded batch holds, and one of the probes as text."""


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    return Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "copy"))


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "pairs.jsonl", queries=2)


def damage(folder: Path, tensor: str, row: int) -> None:
    """Put NaN in one row of a weight."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors[tensor][row] = NAN
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def tokens_of_probes(folder: Path) -> list[set[int]]:
    """The token ids of each probe pair of a checkpoint."""
    encoder = PairEncoder.load(folder / "tokenizer.json", max_length=MAX_LENGTH, pad_token_id=0)
    return [token_ids(encoder, query, document) for query, document in make_probes(encoder).scored]


def token_ids(encoder: PairEncoder, query: str, document: str) -> set[int]:
    first = np.zeros(1, np.int64)
    encoded = encoder.pair([encoder.encode_query(query)], first, encoder.encode_documents([document]))
    return set(encoder.assemble(encoded, first, int(encoded.lengths[0])).input_ids[0].tolist())


def tokens_of_file(folder: Path, pairs: Path) -> set[int]:
    """The token ids of all verification pairs in a file."""
    encoder = PairEncoder.load(folder / "tokenizer.json", max_length=MAX_LENGTH, pad_token_id=0)
    lines = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]
    return set().union(*(token_ids(encoder, line["query"], text) for line in lines for text in line["documents"]))


def token_of_few_probes(folder: Path, pairs: Path) -> tuple[int, int, int]:
    """A token that no verification pair holds, with the number of probe pairs that do and of all probe pairs."""
    probes = tokens_of_probes(folder)
    used = tokens_of_file(folder, pairs) | {PADDING}
    counts = {token: sum(token in probe for probe in probes) for token in set().union(*probes) - used}
    token = min(counts, key=lambda token: (counts[token], token))
    assert 0 < counts[token] < len(probes)
    return token, counts[token], len(probes)


def test_probe_pairs_without_a_number_are_left_out_and_noted(copy, pairs, tmp_path, monkeypatch):
    from crossrank.export.verify import comparison

    token, bad, probes = token_of_few_probes(copy, pairs)
    damage(copy, EMBEDDINGS, token)
    asked = []
    score_alone = comparison.score_alone

    def recorded(assembly, scored, precision):
        asked.extend(scored)
        return score_alone(assembly, scored, precision)

    monkeypatch.setattr(comparison, "score_alone", recorded)
    report = export(copy, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)

    assert (
        f"the checkpoint itself gives no number for {bad} of {probes} probe pairs; its weights may hold NaN"
        in report.notes
    )
    assert report.verification.probes == probes - bad == len(asked)
    encoder = PairEncoder.load(copy / "tokenizer.json", max_length=MAX_LENGTH, pad_token_id=0)
    assert not any(token in token_ids(encoder, *pair) for pair in asked)


def test_the_artifact_scores_every_document_without_the_damaged_token(copy, pairs, tmp_path):
    token, _, _ = token_of_few_probes(copy, pairs)
    damage(copy, EMBEDDINGS, token)
    export(copy, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)

    encoder = PairEncoder.load(copy / "tokenizer.json", max_length=MAX_LENGTH, pad_token_id=0)
    pairs_with_token = [pair for pair in make_probes(encoder).scored if token in token_ids(encoder, *pair)]
    query, damaged = next(pair for pair in pairs_with_token if token not in token_ids(encoder, pair[0], ""))
    with Reranker(tmp_path / "out", precision="fp32") as reranker:
        ranking = reranker.rank(query, ["the river", damaged, "cold water"])
    assert ranking.scored == 2
    assert list(ranking.unscored) == [1]


def test_an_import_leaves_probe_pairs_without_a_number_out(copy, raw_graph, pairs, tmp_path):
    token, bad, probes = token_of_few_probes(copy, pairs)
    model = raw_graph("bert")
    weights = next(item for item in model.graph.initializer if item.name.endswith("word_embeddings.weight"))
    values = onnx.numpy_helper.to_array(weights).copy()
    values[token] = NAN
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    onnx.save(model, tmp_path / "model.onnx")

    report = import_onnx(tmp_path / "model.onnx", copy, tmp_path / "out", verification_pairs=pairs)

    assert any(f"no number for {bad} of {probes} probe pairs" in note for note in report.notes)
    assert report.verification.probes == probes - bad


def test_a_verification_pair_without_a_number_is_refused(copy, pairs, tmp_path):
    token = min(tokens_of_file(copy, pairs) - set.intersection(*tokens_of_probes(copy)))
    damage(copy, EMBEDDINGS, token)
    with pytest.raises(UnsupportedCheckpointError, match=r"copy itself gives NaN .* of 16 pairs.*weights may hold NaN"):
        export(copy, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_any_number_is_refused_before_a_graph_is_made(copy, pairs, tmp_path):
    damage(copy, "classifier.bias", 0)
    steps = []
    with pytest.raises(UnsupportedCheckpointError, match=r"gives NaN or infinity for 16 of 16 pairs.*transformers"):
        export(copy, tmp_path / "out", verification_pairs=pairs, progress=lambda event: steps.append(event.step))
    assert "make fp32" not in steps


def test_a_checkpoint_without_a_number_for_any_probe_is_refused(copy, tmp_path):
    pairs = tmp_path / "plain.jsonl"
    pairs.write_text(json.dumps({"query": "cold", "documents": ["water", "small", "every"]}) + "\n")
    everywhere = set.intersection(*tokens_of_probes(copy)) - tokens_of_file(copy, pairs)
    damage(copy, EMBEDDINGS, min(everywhere))
    with pytest.raises(UnsupportedCheckpointError, match=r"gives NaN or infinity for (\d+) of \1 pairs"):
        export(copy, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
    assert not (tmp_path / "out").exists()
