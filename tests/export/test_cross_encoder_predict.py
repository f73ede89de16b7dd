"""Beside sentence-transformers: an export of every family gives what `CrossEncoder.predict` gives in the same process.

Only where sentence-transformers is installed: `make transformers-5` and `make newest`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from export_cases import write_pairs
from tiny_checkpoints import FAMILIES, make_pairs

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import UnsupportedCheckpointError
from crossrank.export import export

sentence_transformers = pytest.importorskip("sentence_transformers")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_predict(family, layers, tiny_checkpoint, tmp_path):
    checkpoint = tiny_checkpoint(family, layers=layers)
    report = export(
        checkpoint, tmp_path / "out", precisions=["fp32"], verification_pairs=write_pairs(tmp_path / "pairs.jsonl")
    )

    pairs = make_pairs(48, seed=31)
    model = sentence_transformers.CrossEncoder(str(checkpoint), device="cpu")
    for activation, least in (("identity", 0.1), (None, 0.0)):
        options = {} if activation is None else {"activation_fn": torch.nn.Identity()}
        expected = model.predict(pairs, batch_size=7, **options)
        assert np.std(expected) > least, "logits that hardly differ would prove nothing"
        with ArtifactReranker(report.artifact, provider="cpu", precision="fp32", activation=activation) as reranker:
            np.testing.assert_allclose(reranker.score_pairs(pairs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["roberta", "modernbert"])
def test_a_checkpoint_that_sentence_transformers_saved_scores_as_it_does_there(family, tiny_checkpoint, tmp_path):
    saved = tmp_path / "saved"
    sentence_transformers.CrossEncoder(str(tiny_checkpoint(family)), device="cpu", max_length=40).save_pretrained(
        str(saved)
    )
    report = export(
        saved, tmp_path / "out", precisions=["fp32"], verification_pairs=write_pairs(tmp_path / "pairs.jsonl")
    )

    pairs = make_pairs(48, seed=32)
    expected = sentence_transformers.CrossEncoder(str(saved), device="cpu").predict(pairs)
    with ArtifactReranker(report.artifact, provider="cpu", precision="fp32") as reranker:
        np.testing.assert_allclose(reranker.score_pairs(pairs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("length", [20, 56])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"processor_kwargs": {"do_lower_case": False, "model_max_length": 40}},
        {"processing_kwargs": {"text": {"max_length": 40, "truncation": True}}},
    ],
)
def test_a_stated_length_cuts_pairs_where_predict_cuts_them_with_it(settings, length, tiny_checkpoint, tmp_path):
    pytest.importorskip("sentence_transformers.base", reason="these settings came with 6")
    saved = tmp_path / "saved"
    sentence_transformers.CrossEncoder(str(tiny_checkpoint("bert")), device="cpu", max_length=40).save_pretrained(
        str(saved)
    )
    file = saved / "sentence_bert_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    report = export(
        saved,
        tmp_path / "out",
        precisions=["fp32"],
        max_length=length,
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
    )

    assert "CrossEncoder.predict" in report.verification.reference
    pairs = make_pairs(48, seed=34)
    model = sentence_transformers.CrossEncoder(str(saved), device="cpu", max_length=length)
    expected = model.predict(pairs, processing_kwargs={"text": {"max_length": length}})
    with ArtifactReranker(report.artifact, provider="cpu", precision="fp32", truncation="longest_first") as reranker:
        np.testing.assert_allclose(reranker.score_pairs(pairs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_modules_that_sentence_transformers_saved_score_as_they_do_there(pooling, tiny_checkpoint, tmp_path):
    modules = pytest.importorskip("sentence_transformers.base.modules", reason="cross-encoders of modules came with 6")
    of_sentences = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    torch.manual_seed(5)
    body = modules.Transformer(str(tiny_checkpoint("modernbert")), transformer_task="feature-extraction")
    size = body.get_embedding_dimension()
    built = sentence_transformers.CrossEncoder(
        modules=[
            body,
            of_sentences.Pooling(size, pooling_mode=pooling),
            modules.Dense(size, size, activation_function=torch.nn.GELU()),
            of_sentences.LayerNorm(size),
            modules.Dense(size, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
        ],
        device="cpu",
    )
    built.save_pretrained(str(tmp_path / "saved"))
    report = export(
        tmp_path / "saved",
        tmp_path / "out",
        precisions=["fp32"],
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
    )

    assert "CrossEncoder.predict" in report.verification.reference
    pairs = make_pairs(48, seed=33)
    model = sentence_transformers.CrossEncoder(str(tmp_path / "saved"), device="cpu")
    for activation, least in (("identity", 0.1), (None, 0.0)):
        options = {} if activation is None else {"activation_fn": torch.nn.Identity()}
        expected = model.predict(pairs, batch_size=7, **options)
        assert np.std(expected) > least, "logits that hardly differ would prove nothing"
        with ArtifactReranker(report.artifact, provider="cpu", precision="fp32", activation=activation) as reranker:
            np.testing.assert_allclose(reranker.score_pairs(pairs), expected, atol=1e-4, rtol=0)


def test_a_checkpoint_on_which_predict_fails_is_refused(tiny_checkpoint, tmp_path):
    """The tokenizer has a token that the model has no embedding for, as where one was added and nothing resized."""
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "copy"))
    for name, keys in (
        ("config.json", {"sentence_transformers": {"version": "5.0.0"}}),
        ("tokenizer_config.json", {"additional_special_tokens": ["<mask>"]}),
    ):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | keys))
    pairs = write_pairs(tmp_path / "pairs.jsonl", queries=2)
    with pytest.raises(UnsupportedCheckpointError, match=r"copy itself fails in CrossEncoder\.predict.*IndexError"):
        export(folder, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
