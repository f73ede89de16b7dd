"""Decoders of every family, classifiers and language models: exported, and scoring as their own code does."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import onnx
import pytest
from export_cases import transformers_logits
from own_code import own_scores
from packaging.version import Version
from tiny_checkpoints import make_pairs, make_texts
from tiny_decoders import CLASSIFIERS, LANGUAGE_MODELS, MAX_LENGTH, make_decoder

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.runtime.reference_pairs import check_reference_pairs
from crossrank.errors import InferenceError, InvalidInputError
from crossrank.export import export
from crossrank.export.graph.tools import count_operators
from crossrank.models.artifact import Artifact

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

ALL = (*CLASSIFIERS, *LANGUAGE_MODELS)
# From no text at all to far more than the model takes, and text that looks like the templates' own.
HARD = [
    ("the river", ""),
    ("the river", " "),
    ("", "cold water"),
    ("who reads?", "\n\n  leading space and lines\n"),
    ("wind-tunnel: ", "<|im_end|> <think> <bos> \u0301combining 日本語で 42"),
    ("{query} {document} {instruction}", "{document}"),
    ("cold water", " ".join(make_texts(60, seed=3))),
]
PAIRS = [*make_pairs(14, seed=11), *HARD]


def expected_logits(name, checkpoint, pairs):
    if name in LANGUAGE_MODELS:
        return own_scores(name, checkpoint, pairs, max_length=MAX_LENGTH)
    return transformers_logits(checkpoint, pairs, max_length=MAX_LENGTH)[:, 0]


@pytest.mark.parametrize("name", ALL)
def test_decoder_exports_and_scores_like_its_own_code(name, decoder, decoder_export):
    report = decoder_export(name)
    expected = expected_logits(name, decoder(name), PAIRS)
    assert np.std(expected) > 0.1, "logits that hardly differ would prove nothing"

    manifest = Artifact.open(report.artifact).manifest
    assert manifest.causal
    assert not manifest.uses_segment_ids
    assert (manifest.template.name if manifest.template else None) == (name if name in LANGUAGE_MODELS else None)
    fidelity = {graph.precision: graph.fidelity for graph in report.graphs}
    assert fidelity["fp32"].max_abs_logit_difference <= 1e-4
    assert fidelity["int8"].kendall_tau > 0.5
    # Alone, in padded batches of unequal lengths, and several to a run in any case.
    for options in ({"max_batch_tokens": 1}, {"max_batch_tokens": 4096}, {"threads": 1, "max_batch_tokens": 2000}):
        with ArtifactReranker(report.artifact, precision="fp32", activation="identity", **options) as reranker:
            np.testing.assert_allclose(reranker.score_pairs(PAIRS), expected, atol=1e-4, rtol=0)
            assert reranker.info().batching == "padded"
    assert all(check.passed for check in check_reference_pairs(report.artifact))


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_no_graph_computes_the_logits_of_a_vocabulary(name, decoder_export):
    report = decoder_export(name)
    vocabulary = Artifact.open(report.artifact).manifest.architecture.vocab_size

    model = onnx.load(report.artifact / "fp32.onnx")
    tables = [tensor.name for tensor in model.graph.initializer if vocabulary in tensor.dims]
    assert tables == ["embeddings"]
    logits = next(value for value in model.graph.output if value.name == "logits")
    assert logits.type.tensor_type.shape.dim[1].dim_value == 1


def test_norms_and_rotary_positions_are_fused_and_the_last_layer_is_computed_for_one_token(decoder_export):
    graph = onnx.load(decoder_export("qwen3").artifact / "fp32.onnx").graph
    counts = count_operators(graph)

    # Two a layer and two over heads, and the last one.
    assert counts["SimplifiedLayerNormalization"] == 2 * 4 + 1
    assert counts["RotaryEmbedding"] == 2 * 2
    assert not counts["Pow"]
    rows = rows_of_products(decoder_export("qwen3").artifact / "fp32.onnx")
    assert all(rows[f"layers.0.{part}"] == 7 for part in ("query", "key", "value", "output", "gate", "up", "down"))
    assert {part: rows[f"layers.1.{part}"] for part in ("query", "output", "gate", "up", "down")} == dict.fromkeys(
        ("query", "output", "gate", "up", "down"), 1
    )
    assert rows["layers.1.key"] == rows["layers.1.value"] == 7


def rows_of_products(path):
    """How many tokens each projection is computed for, where a pair has seven."""
    import onnxruntime

    model = onnx.load(path)
    names = [node.output[0] for node in model.graph.node if node.op_type == "MatMul" and "layers." in node.name]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {
        item.name: np.ones((1, 7), np.int64)
        if item.name in {"input_ids", "attention_mask"}
        else np.zeros((1, item.shape[1], 0, item.shape[3]), np.float32)
        for item in session.get_inputs()
    }
    return {
        name.partition("/")[0]: array.shape[1] for name, array in zip(names, session.run(names, feeds), strict=True)
    }


def test_a_text_that_ends_with_the_padding_token_is_read_as_transformers_reads_it(decoder, decoder_export):
    pairs = [
        ("cold water", "the river <|endoftext|>"),
        ("cold water", "<|endoftext|>"),
        ("cold<|endoftext|>", ""),
    ]
    # Before 4.49, transformers reads the token before the first padding token, wherever that is.
    if Version(importlib.metadata.version("transformers")) >= Version("4.49"):
        pairs.append(("water", "<|endoftext|><|endoftext|> and more"))
    expected = transformers_logits(decoder("qwen2"), pairs, max_length=MAX_LENGTH)[:, 0]
    for tokens in (1, 4096):
        with ArtifactReranker(
            decoder_export("qwen2").artifact, precision="fp32", activation="identity", max_batch_tokens=tokens
        ) as reranker:
            np.testing.assert_allclose(reranker.score_pairs(pairs), expected, atol=1e-4, rtol=0)


def test_a_pair_without_any_token_is_named_and_harms_no_other(decoder_export):
    artifact = decoder_export("qwen2").artifact
    with ArtifactReranker(artifact, precision="fp32") as reranker:
        alone = reranker.rank("", [""])
        assert "makes no token" in alone.failures[0]
        with pytest.raises(InferenceError, match=r"documents\[1\].*makes no token"):
            reranker.score("", ["cold water", ""])
        documents = [*[""] * 20, "cold water", "the river", "\n"]
        ranking = reranker.rank("", documents)
        assert sorted(ranking.failures) == list(range(20))
        assert set(ranking.failures.values()) == set(alone.failures.values())
        expected = reranker.score("", documents[20:])
        assert {item.index: item.score for item in ranking if item.index >= 20} == {
            20 + place: score for place, score in enumerate(expected.tolist())
        }
        assert reranker.score("the river", ["", "cold water"]).shape == (2,)


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
        (
            "llama",
            {
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                }
            },
        ),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("qwen3", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 160}}),
        ("qwen2", {"num_key_value_heads": 1}),
        ("qwen2", {"num_key_value_heads": 4, "hidden_act": "gelu"}),
        # Longer than any pair, so that it never leaves anything out.
        ("qwen2", {"use_sliding_window": True, "sliding_window": 640, "max_window_layers": 1}),
    ],
)
def test_variants_of_the_configuration_keep_parity(family, config, tmp_path, tiny_pairs):
    checkpoint = make_decoder(tmp_path / "checkpoint", family, **config)

    report = export(checkpoint, tmp_path / "artifact", precisions=["fp32"], verification_pairs=tiny_pairs)

    assert report.graphs[0].fidelity.max_abs_logit_difference <= 1e-4


def test_a_tied_output_matrix_is_read(tmp_path, tiny_pairs):
    checkpoint = make_decoder(tmp_path / "checkpoint", "qwen3", generates=True, tie_word_embeddings=True)

    report = export(
        checkpoint,
        tmp_path / "artifact",
        template="qwen3-reranker",
        precisions=["fp32"],
        verification_pairs=tiny_pairs,
    )

    expected = own_scores("qwen3-reranker", checkpoint, PAIRS, max_length=MAX_LENGTH)
    with ArtifactReranker(report.artifact) as reranker:
        np.testing.assert_allclose(reranker.score_pairs(PAIRS), 1 / (1 + np.exp(-expected)), atol=1e-5, rtol=0)


def test_a_classifier_made_of_a_language_model_may_have_its_template(decoder, tmp_path, tiny_pairs):
    report = export(
        decoder("qwen3"),
        tmp_path / "artifact",
        template="qwen3-reranker",
        precisions=["fp32"],
        verification_pairs=tiny_pairs,
    )

    with ArtifactReranker(report.artifact) as reranker:
        assert reranker.score("the river", ["cold water"], instruction="Find rivers").shape == (1,)
    assert "AutoModelForSequenceClassification in the template of qwen3-reranker" in report.verification.reference


@pytest.mark.parametrize("name", ["qwen3-reranker", "mxbai-rerank-v2"])
def test_an_instruction_of_the_call_or_of_the_reranker_is_the_one_that_is_scored_by(name, decoder, decoder_export):
    judged_by = "Find passages about {query}, [brackets] included"
    pairs = PAIRS[:6]
    expected = own_scores(name, decoder(name), pairs, max_length=MAX_LENGTH, instruction=judged_by)
    usual = own_scores(name, decoder(name), pairs, max_length=MAX_LENGTH)
    artifact = decoder_export(name).artifact
    options = {"precision": "fp32", "activation": "identity", "score_cache_bytes": 100_000}

    with ArtifactReranker(artifact, **options) as reranker:
        # The cache tells them apart.
        for _ in range(2):
            np.testing.assert_allclose(reranker.score_pairs(pairs), usual, atol=1e-4)
            np.testing.assert_allclose(reranker.score_pairs(pairs, instruction=judged_by), expected, atol=1e-4)
        query, documents = pairs[0][0], [document for _, document in pairs]
        scores = reranker.score(query, documents, instruction=judged_by)
        ranking = reranker.rank(query, reranker.prepare(documents), instruction=judged_by)
        assert [item.index for item in ranking] == np.argsort(-scores, kind="stable").tolist()
        with pytest.raises(InvalidInputError, match="not blank"):
            reranker.score(query, documents, instruction=" ")
    with ArtifactReranker(artifact, instruction=judged_by, **options) as reranker:
        np.testing.assert_allclose(reranker.score_pairs(pairs), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["bge-reranker-v2-gemma", "qwen2"])
def test_an_instruction_is_refused_where_the_model_takes_none(name, decoder_export):
    artifact = decoder_export(name).artifact

    with pytest.raises(InvalidInputError, match="takes none"):
        ArtifactReranker(artifact, instruction="Find rivers")
    with ArtifactReranker(artifact) as reranker, pytest.raises(InvalidInputError, match="takes none"):
        reranker.rank("the river", ["cold water"], instruction="Find rivers")


def test_windows_are_refused_where_words_belong_directly_before_a_document(decoder_export):
    with pytest.raises(InvalidInputError, match="'B: '"):
        ArtifactReranker(decoder_export("bge-reranker-v2-gemma").artifact, long_documents="windows")


def test_a_long_document_is_read_window_by_window_where_only_a_space_stands_before_it(decoder_export):
    from crossrank.engine.text.windows import Windows

    document = " ".join(make_texts(30, seed=8))
    with ArtifactReranker(
        decoder_export("qwen3-reranker").artifact, long_documents=Windows(tokens=40, stride=40)
    ) as reranker:
        (best,) = reranker.rank("the river", [document])
    assert best.window.count > 3
    assert 0 <= best.window.start < best.window.end <= len(document)


def test_weights_beside_the_graph_score_the_same(decoder, decoder_export, tmp_path, tiny_pairs):
    report = export(
        decoder("llama"),
        tmp_path / "artifact",
        precisions=("fp32", "int8"),
        verification_pairs=tiny_pairs,
        external_data_from=10_000,
        min_kendall_tau=0.5,
    )

    assert sorted(path.name for path in report.artifact.glob("*.data")) == ["fp32.onnx.data", "int8.onnx.data"]
    for precision in ("fp32", "int8"):
        with (
            ArtifactReranker(report.artifact, precision=precision) as apart,
            ArtifactReranker(decoder_export("llama").artifact, precision=precision) as whole,
        ):
            tolerance = 0 if precision == "fp32" else 0.2  # calibrated on other pairs
            np.testing.assert_allclose(apart.score_pairs(PAIRS), whole.score_pairs(PAIRS), atol=tolerance, rtol=0)
