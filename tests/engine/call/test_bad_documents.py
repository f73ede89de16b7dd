"""One bad document is one bad document: its pair has no score and a reason, the others keep theirs."""

import asyncio

import numpy as np
import pytest
from fake_runner import FakeRunner, outputs_of

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.engine.text.windows import Windows
from crossrank.errors import InferenceError

BAD = "bad winter"
DOCUMENTS = [f"cold water {'by hand ' * (index % 5)}{index}" for index in range(20)]
WITH_BAD = [*DOCUMENTS[:7], BAD, *DOCUMENTS[8:]]
PLENTY = 600_000


@pytest.fixture(params=["run fails", "NaN", "infinity", "all of the run is NaN"])
def failing(request, tiny_artifact, monkeypatch):
    """A function that makes a reranker whose graph cannot take the bad document."""
    made = []

    def build(**options):
        with ArtifactReranker(tiny_artifact, provider="cpu", precision="fp32") as plain:
            encoder = plain.loaded_model.encoder
            tokens = encoder.encode_documents([BAD]).ids.tolist()

        class Runner(FakeRunner):
            def outputs(self, arrays):
                outputs = super().outputs(arrays)
                rows = arrays.input_ids.tolist()
                hit = [any(row[i : i + len(tokens)] == tokens for i in range(len(row))) for row in rows]
                if request.param == "run fails" and any(hit):
                    raise InferenceError("onnxruntime failed")
                if request.param == "all of the run is NaN" and any(hit):
                    outputs[:] = np.nan
                outputs[hit] = np.inf if request.param == "infinity" else np.nan
                return outputs

        monkeypatch.setattr("crossrank.engine.loaded_model.CpuRunner", lambda *_, **__: Runner(2))
        made.append(ArtifactReranker(tiny_artifact, provider="cpu", precision="fp32", **options))
        return made[-1]

    yield build
    for engine in made:
        engine.close()


def check(ranking, whole):
    assert (ranking.scored, ranking.unscored, ranking.unscored_because) == (19, (7,), "failed")
    assert list(ranking.failures) == [7]
    assert "no number" in ranking.failures[7] or "onnxruntime failed" in ranking.failures[7]
    assert (ranking[-1].index, ranking[-1].score, ranking[-1].unscored_because) == (7, None, "failed")
    assert all(item.unscored_because is None for item in ranking[:-1])
    assert {item.index: item.score for item in ranking[:-1]} == {
        item.index: item.score for item in whole if item.index != 7
    }


@pytest.mark.parametrize("options", [{}, {"max_batch_tokens": 40}, {"score_cache_bytes": 10**6}])
def test_rank_leaves_it_unscored_with_a_reason_and_scores_the_others(failing, options):
    engine = failing(**options)
    whole = engine.rank("q", DOCUMENTS)
    assert (whole.unscored_because, dict(whole.failures)) == (None, {})
    check(engine.rank("q", WITH_BAD), whole)
    check(engine.rank("q", engine.prepare(WITH_BAD)), whole)
    check(engine.rank("q", WITH_BAD, deadline_ms=PLENTY), whole)
    rankings = list(engine.iter_rank("q", WITH_BAD))
    check(rankings[-1], whole)
    assert engine.health().ok
    assert engine.stats().queue_tokens == 0

    async def main():
        beside = AsyncArtifactReranker(engine)
        check(await beside.rank("q", WITH_BAD), whole)
        check(await beside.rank("q", WITH_BAD, deadline_ms=PLENTY), whole)
        check([ranking async for ranking in beside.aiter_rank("q", WITH_BAD)][-1], whole)
        with pytest.raises(InferenceError, match=r"documents\[7\] has no score"):
            await beside.score("q", WITH_BAD)
        with pytest.raises(InferenceError, match=r"pairs\[7\] has no score"):
            await beside.score_pairs([("q", text) for text in WITH_BAD])

    asyncio.run(main())


@pytest.mark.parametrize("limit", [None, PLENTY])
def test_score_names_its_position_in_the_callers_list(failing, limit):
    engine = failing()
    with pytest.raises(InferenceError, match=r"^documents\[7\] has no score: .*rank\(\) scores the others"):
        engine.score("q", WITH_BAD, deadline_ms=limit)
    with pytest.raises(InferenceError, match=r"^pairs\[7\] has no score"):
        engine.score_pairs([("q", text) for text in WITH_BAD], deadline_ms=limit)
    lists = [["a"], [], ["b", BAD], ["c"]]
    with pytest.raises(InferenceError, match=r"^documents_per_query\[2\]\[1\] has no score"):
        engine.score_many(["q", "r", "s", "t"], lists, deadline_ms=limit)
    assert engine.score("q", DOCUMENTS, deadline_ms=limit).shape == (20,)


def test_every_place_of_an_equal_document_is_named(failing):
    engine = failing()
    documents = ["a", BAD, "b", BAD, "c", BAD]
    with pytest.raises(InferenceError, match=r"^documents\[1\] .*; so have documents\[3\], documents\[5\]\. "):
        engine.score("q", documents)
    ranking = engine.rank("q", documents)
    assert (ranking.scored, ranking.unscored, list(ranking.failures)) == (3, (1, 3, 5), [1, 3, 5])


def test_a_document_with_a_bad_window_is_bad_as_a_whole(failing):
    engine = failing(long_documents=Windows(tokens=8, stride=4), max_length=32)
    documents = ["cold water " * 20, "the river " * 20 + BAD + " the river" * 20, "by hand " * 20]
    ranking = engine.rank("q", documents)
    assert (ranking.scored, ranking.unscored, ranking.unscored_because) == (2, (1,), "failed")


def test_what_failed_is_not_kept_as_a_score_and_what_was_scored_beside_it_is(failing):
    engine = failing(score_cache_bytes=10**6)
    with pytest.raises(InferenceError):
        engine.score("q", WITH_BAD)
    assert engine.info().score_cache.entries == 19
    assert engine.score("q", WITH_BAD[:7]).shape == (7,)
    with pytest.raises(InferenceError, match=r"documents\[7\]"):
        engine.score("q", WITH_BAD)


def test_a_deadline_and_a_failure_are_told_apart(tiny_artifact, monkeypatch):
    runner = FakeRunner(workers=1, gated=True)
    runner.outputs = lambda arrays: outputs_of(arrays) * np.nan
    monkeypatch.setattr("crossrank.engine.loaded_model.CpuRunner", lambda *_, **__: runner)
    runner.let_go()
    with ArtifactReranker(tiny_artifact, provider="cpu", precision="int8", threads=1) as engine:
        ranking = engine.rank("q", DOCUMENTS, deadline_ms=300)
        reasons = {item.index: item.unscored_because for item in ranking}
        assert (ranking.scored, ranking.unscored_because, len(ranking.unscored)) == (0, "deadline", 20)
        assert list(reasons.values()).count("failed") == len(ranking.failures) >= 1
        assert {reasons[index] for index in ranking.failures} == {"failed"}
        runner.open_gate()


def test_where_every_run_fails_it_is_no_documents_fault(tiny_artifact, monkeypatch):
    def fail(arrays):
        raise InferenceError("the device is gone")

    runner = FakeRunner(workers=2, on_run=fail)
    monkeypatch.setattr("crossrank.engine.loaded_model.CpuRunner", lambda *_, **__: runner)
    with ArtifactReranker(tiny_artifact, provider="cpu", precision="fp32") as engine:
        for documents in (["a"], ["a", "b"], [f"word {index}" for index in range(500)]):
            for limit in (None, PLENTY):
                before = len(runner.ran)
                with pytest.raises(InferenceError, match=r"^the device is gone$"):
                    engine.rank("q", documents, deadline_ms=limit)
                assert len(runner.ran) - before < 500
