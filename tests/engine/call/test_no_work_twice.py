"""Equal pairs are scored once, and with a cache not even that; no score is another for it."""

import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pieces import encode_unknown

from crossrank.engine.call import candidates
from crossrank.engine.call.candidates import CandidateFinder
from crossrank.engine.call.results import DocumentWindow
from crossrank.engine.call.score_cache import ENTRY_BYTES, WINDOW_BYTES, KnownScore, ScoreCache, digest
from crossrank.engine.runtime.session import GraphSession
from crossrank.engine.text.encoding import PairEncoder
from crossrank.engine.text.windows import Windows
from crossrank.errors import ClosedError, InferenceError, TruncationWarning

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")

LONG = "the river heats cold water " * 20
MEGABYTE = 1_000_000


@pytest.fixture
def rows(monkeypatch):
    """How many rows each run had."""
    counts: list[int] = []
    run = GraphSession.run

    def counted(self, arrays):
        counts.append(len(arrays.input_ids))
        return run(self, arrays)

    monkeypatch.setattr(GraphSession, "run", counted)
    return counts


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_equal_documents_of_a_call_are_scored_once(reranker, scored, rows, precision):
    engine = reranker(precision=precision)
    documents = scored.documents[5:9]
    alone = engine.score(scored.query, documents)
    many = [documents[index] for index in (2, 0, 2, 2, 1, 3, 0)]
    for given_documents in (many, engine.prepare(many), [{"text": text, "id": n} for n, text in enumerate(many)]):
        rows.clear()
        np.testing.assert_allclose(engine.score(scored.query, given_documents), alone[[2, 0, 2, 2, 1, 3, 0]], atol=1e-5)
        assert sum(rows) == 4
        ranking = engine.rank(scored.query, given_documents)
        assert sorted(item.index for item in ranking) == list(range(7))
        assert ranking.scored == 7


@given(texts=st.lists(st.sampled_from(["a" * 9, "a" * 8, "aab" * 3, "aabaacaab", "aabaadaab", "", "aaab"]), max_size=8))
def test_long_documents_that_look_alike_are_told_apart_and_equal_ones_are_not(texts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_LONG", 5)
        patch.setattr(candidates, "_OUTLINE", 2)
        copies = ["".join(list(text)) for text in texts]  # equal, not the same objects
        distinct, indices = candidates._distinct(copies)
    assert distinct == list(dict.fromkeys(texts))
    assert [distinct[index] for index in indices] == texts


def test_equal_pairs_are_equal_in_query_and_document(reranker, rows):
    engine = reranker()
    pairs = [("who", "the river"), ("the river", "who"), ("who", "the river"), ("whothe", " river"), ("", "who")]
    scores = engine.score_pairs(pairs)
    assert sum(rows) == 4
    assert scores[0] == scores[2]
    assert len(set(scores.tolist())) == 4
    rows.clear()
    many = engine.score_many(["who", "the river", "who"], [["the river"], ["who"], ["the river", ""]])
    assert sum(rows) == 3
    np.testing.assert_allclose([many[0][0], many[1][0], many[2][0]], scores[[0, 1, 0]], atol=1e-5)


@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_cache_never_changes_a_score(reranker, scored, data):
    how = data.draw(st.sampled_from(["truncate", Windows(tokens=16, max_windows_per_document=3)]))
    size = data.draw(st.sampled_from([ENTRY_BYTES // 2, 5 * ENTRY_BYTES, MEGABYTE]))
    cached = reranker(precision="int8", score_cache_bytes=size, long_documents=how)
    plain = reranker(precision="int8", long_documents=how)
    queries = st.sampled_from([scored.query, "", "who", LONG])
    for _ in range(4):
        query = data.draw(queries)
        documents = data.draw(st.lists(st.sampled_from([*scored.documents, LONG]), max_size=8))
        if data.draw(st.booleans()):
            prepared = cached.prepare(documents) if data.draw(st.booleans()) else documents
            assert cached.rank(query, prepared) == plain.rank(query, documents)
        else:
            assert cached.score(query, documents).tobytes() == plain.score(query, documents).tobytes()
    cached.close()
    plain.close()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_known_pair_is_neither_encoded_nor_run_and_its_score_is_bitwise_the_computed_one(
    reranker, scored, rows, monkeypatch, precision
):
    engine = reranker(precision=precision, score_cache_bytes=MEGABYTE)
    prepared = engine.prepare(scored.documents)
    scores, ranking = engine.score(scored.query, scored.documents), engine.rank(scored.query, scored.documents)
    assert sum(rows) == len(set(scored.documents))
    monkeypatch.setattr(GraphSession, "run", lambda *_: pytest.fail("run again"))
    encode = PairEncoder.encode_documents

    def encode_none(self, texts):
        assert list(texts) == [], "encoded again"
        return encode(self, texts)

    monkeypatch.setattr(PairEncoder, "encode_documents", encode_none)
    assert engine.score(scored.query, scored.documents).tobytes() == scores.tobytes()
    assert engine.score(scored.query, prepared).tobytes() == scores.tobytes()
    assert engine.rank(scored.query, scored.documents) == ranking
    assert engine.score_pairs([(scored.query, text) for text in scored.documents]).tobytes() == scores.tobytes()


def test_hits_misses_and_size_are_told(reranker):
    engine = reranker(score_cache_bytes=10 * ENTRY_BYTES)
    engine.score("who", ["a", "b", "a"])
    engine.rank("who", ["b", "c"])
    info = engine.info().score_cache
    assert (info.hits, info.misses, info.entries) == (1, 3, 3)
    assert (info.size, info.max_size) == (3 * ENTRY_BYTES, 10 * ENTRY_BYTES)
    engine.score("other", ["a"])
    assert engine.info().score_cache.misses == 4
    assert reranker().info().score_cache is None


def test_the_least_recently_used_is_forgotten(reranker, rows):
    engine = reranker(score_cache_bytes=2 * ENTRY_BYTES)
    for documents in (["a"], ["b"], ["a"], ["c"], ["a"]):
        engine.score("who", documents)
    assert len(rows) == 3
    engine.score("who", ["b"])
    assert len(rows) == 4
    assert engine.info().score_cache.entries == 2


def test_a_warning_is_given_for_a_known_pair_too(reranker):
    engine = reranker(score_cache_bytes=MEGABYTE)
    for _ in range(2):
        with pytest.warns(TruncationWarning):
            engine.score("who", [LONG])
        assert [item.truncated for item in engine.rank("who", [LONG, "short"])].count(True) == 1


@pytest.mark.parametrize("truncation", ["only_second", "longest_first"])
def test_a_known_pair_says_as_well_that_its_query_was_cut(reranker, truncation):
    engine = reranker(score_cache_bytes=MEGABYTE, truncation=truncation)
    first = engine.rank(LONG, [LONG, "short"])
    assert first.query_truncated
    assert engine.rank(LONG, [LONG, "short"]) == first
    assert not engine.rank("who", ["short"]).query_truncated


def test_what_failed_is_not_kept(reranker, monkeypatch):
    engine = reranker(score_cache_bytes=MEGABYTE)
    with monkeypatch.context() as patch:
        patch.setattr(GraphSession, "run", lambda *_: (_ for _ in ()).throw(InferenceError("broken")))
        with pytest.raises(InferenceError):
            engine.score("who", ["a"])
    assert engine.info().score_cache.entries == 0
    assert np.isfinite(engine.score("who", ["a"])).all()


def test_many_threads_share_it(reranker, scored):
    engine = reranker(precision="int8", score_cache_bytes=8 * ENTRY_BYTES)
    expected = reranker(precision="int8").score(scored.query, scored.documents)

    def work(start):
        order = np.roll(np.arange(len(expected)), start)[:12]
        found = engine.score(scored.query, [scored.documents[index] for index in order])
        return found.tobytes() == expected[order].tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(24)))
    info = engine.info().score_cache
    assert info.entries <= 8
    assert info.hits + info.misses >= 24 * 6


def test_closing_forgets_and_a_closed_reranker_gives_no_known_score(reranker):
    engine = reranker(score_cache_bytes=MEGABYTE)
    prepared = engine.prepare(["a"])
    engine.score("who", prepared)
    engine.close()
    assert engine.info().score_cache.entries == 0
    for call in (lambda: engine.score("who", prepared), lambda: engine.rank("who", ["a"])):
        with pytest.raises(ClosedError):
            call()


def test_texts_that_run_together_have_other_digests():
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", ""), digest("", "abc")}) == 5


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="sizes of CPython's objects")
@pytest.mark.parametrize("window", [None, DocumentWindow(1000, 2000, 3000, 4000)])
def test_the_bound_on_bytes_holds_for_the_memory_really_taken(window):
    import tracemalloc

    entry = ENTRY_BYTES + (WINDOW_BYTES if window else 0)
    for entries in (1000, 5600, 11_000, 22_000):
        bound = entries * entry
        tracemalloc.start()
        cache = ScoreCache(bound)
        for number in range(entries + 500):
            own = window and DocumentWindow(number + 300, number + 301, number + 302, number + 303)
            known = KnownScore(number + 0.5, False, False, own)
            cache.store([(digest(str(number)) + digest("text", str(number)), known)])
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert cache.info().size <= bound
        assert cache.info().entries == entries
        assert taken <= bound * 1.02


def test_what_time_did_not_allow_is_told_and_not_kept(tiny_checkpoint):
    # As a deadline leaves it: some rows have no logit, among them one of a document's several windows.
    encoder = PairEncoder.load(tiny_checkpoint("bert") / "tokenizer.json", max_length=64, pad_token_id=0)
    cache = ScoreCache(MEGABYTE)
    how = Windows(tokens=10, stride=10, max_windows_per_document=None)
    finder = CandidateFinder(encoder, encoder_key="", graph="", windows=how, cache=cache)
    texts = ["! " * 20, "? " * 20, "!", "?", "! " * 20]

    def request():
        return encode_unknown(finder.of_texts(["who"], np.zeros(5, dtype=np.int64), texts))

    first = request()
    logits = np.arange(len(first.rows), dtype=np.float32)
    assert len(logits) == 6
    found = first.resolve(logits, np.asarray([True, True, True, False, True, False]), {})
    assert found.scored.tolist() == [True, False, True, False]
    assert found.logits[[0, 2]].tolist() == [1, 4]
    assert cache.info().entries == 2
    again = request()
    assert len(again.rows) == 3
    found = again.resolve(np.asarray([7, 8, 9], dtype=np.float32), np.ones(3, dtype=np.bool_), {})
    assert found.scored.all()
    assert found.logits.tolist() == [8, 9]
    assert [window.index for window in found.windows] == [1, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_of_fork_starts_with_an_empty_cache_that_nobody_holds():
    cache = ScoreCache(MEGABYTE)
    cache.store([(b"key", KnownScore(1.0, False, False, None))])
    with cache._lock:  # as another thread might
        child = os.fork()
        if child == 0:
            os._exit(0 if cache.look_up([b"key"]) == [None] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.look_up([b"key"]) == [KnownScore(1.0, False, False, None)]


def test_a_pickled_reranker_keeps_its_options_and_starts_with_an_empty_cache(reranker):
    engine = reranker(score_cache_bytes=MEGABYTE, long_documents=Windows(tokens=16))
    engine.score("who", ["a"])
    with pickle.loads(pickle.dumps(engine)) as other:
        info = other.info()
        assert info.long_documents == Windows(tokens=16)
        assert (info.score_cache.entries, info.score_cache.max_size) == (0, MEGABYTE)
