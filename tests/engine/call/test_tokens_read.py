"""Results say how many tokens the model read of their pairs."""

import asyncio

from fake_runner import FakeRunner
from tiny_artifacts import with_instruction
from tokenizers import Tokenizer

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.engine.text.windows import Windows

DOCUMENTS = ["wind tunnel results", "", "the old café", "the old café", "wind tunnel " * 400]


def pair_tokens(artifact, query, document, most):
    tokenizer = Tokenizer.from_file(str(artifact / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return min(most, len(tokenizer.encode(query, document).ids))


def test_tokens_are_those_of_the_pairs_whichever_way_they_are_scored(tiny_artifact):
    with ArtifactReranker(tiny_artifact, score_cache_bytes=100_000) as reranker:
        most = reranker.info().max_length
        expected = sum(pair_tokens(tiny_artifact, "a query", document, most) for document in DOCUMENTS)
        assert reranker.rank("a query", DOCUMENTS).tokens == expected
        assert reranker.rank("a query", DOCUMENTS).tokens == 0  # the cache knows all of them
    with ArtifactReranker(tiny_artifact) as reranker:
        assert reranker.rank("a query", DOCUMENTS, deadline_ms=60_000).tokens == expected
        assert [ranking.tokens for ranking in reranker.iter_rank("a query", DOCUMENTS)][-1] == expected
        assert reranker.rank("a query", DOCUMENTS, deadline_ms=0).tokens == 0
    with ArtifactReranker(tiny_artifact, long_documents=Windows(tokens=32)) as reranker:
        assert reranker.rank("a query", DOCUMENTS).tokens > expected


def test_shortened_documents_are_read_as_far_as_they_should_be(tiny_artifact):
    long = "wind tunnel results of the old café"
    with ArtifactReranker(tiny_artifact, score_cache_bytes=100_000) as reranker:
        whole = reranker.rank("a query", [long])[0].score  # which the cache keeps
        prepared = reranker.prepare([long, "x"])
        short = reranker.rank("a query", prepared.shortened(2))
        assert short.tokens < reranker.rank("another", prepared).tokens
        assert {item.index: item.score for item in short}[0] != whole
        assert {item.index: item.truncated for item in short} == {0: True, 1: False}
        again = prepared.shortened(2).shortened(1000)
        assert {item.index: item.truncated for item in reranker.rank("a query", again)} == {0: True, 1: False}
        assert reranker.rank("a query", prepared.shortened(1000)).truncated_documents == 0
        assert reranker.rank("a query", prepared.shortened(1000))[0].score is not None
        assert {item.index: item.score for item in reranker.rank("a query", prepared)}[0] == whole


def test_a_templates_text_before_the_document_is_not_what_is_shortened(tiny_artifact, tmp_path):
    labelled = with_instruction(tiny_artifact, tmp_path / "labelled", document="the water: {document}")
    tokenizer = Tokenizer.from_file(str(labelled / "tokenizer.json"))
    expected = []
    with ArtifactReranker(labelled, activation="identity") as reranker:
        for document, beginning in (("wind tunnel results", "wind"), ("old café", "old")):
            tokens = len(tokenizer.encode(beginning, add_special_tokens=False).ids)
            shortened = reranker.prepare([document]).shortened(tokens)
            expected.append(reranker.score("a query", [beginning])[0])
            assert abs(reranker.score("a query", shortened)[0] - expected[-1]) < 1e-5
    assert abs(expected[0] - expected[1]) > 1e-3


def test_pairs_that_a_deadline_left_without_a_score_count_no_tokens(tiny_artifact, monkeypatch):
    runner = FakeRunner(workers=1, gated=True)
    monkeypatch.setattr("crossrank.engine.loaded_model.CpuRunner", lambda *_, **__: runner)
    pairs = [("q", f"cold water {index}") for index in range(9)]
    with ArtifactReranker(tiny_artifact, provider="cpu", precision="int8", threads=1) as reranker:
        found = asyncio.run(AsyncArtifactReranker(reranker).pair_scores(pairs, deadline_ms=200))
        runner.open_gate()
    assert not found.scored.any()
    assert found.tokens.tolist() == [0] * 9
