"""The asynchronous reranker: the same scores whoever else calls, and calls that are cancelled, late or refused."""

import asyncio
import contextlib
import gc
import pickle
import random
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fake_runner import WAIT, FakeRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.schedule.admission import LONGEST_WAIT
from crossrank.errors import ClosedError, DeadlineExceeded, InferenceError, InvalidInputError, Overloaded

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.TruncationWarning")


def make(artifact, **options):
    return AsyncArtifactReranker(
        ArtifactReranker(artifact, **({"provider": "cpu", "precision": "int8", "threads": 2} | options))
    )


@pytest.fixture
def faked(tiny_artifact, monkeypatch):
    """A function that makes an asynchronous reranker on a fake runner."""

    def build(runner, **options):
        monkeypatch.setattr("crossrank.engine.loaded_model.CpuRunner", lambda *_, **__: runner)
        return make(tiny_artifact, **options)

    return build


async def until(condition):
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.001)


def test_pair_scores_tell_what_was_cut_and_what_is_missing(tiny_artifact):
    texts = ["wind tunnel", "wind tunnel " * 600, ""]
    pairs = [(query, text) for query in ("a question", "another") for text in texts]

    async def main():
        async with make(tiny_artifact, activation="identity") as reranker:
            expected = await reranker.score_pairs(pairs)
            late = await reranker.pair_scores(pairs, deadline_ms=0)
            return expected, await reranker.pair_scores(pairs), late

    expected, found, late = asyncio.run(main())
    np.testing.assert_array_equal(found.logits, expected)
    assert found.scored.all()
    assert found.truncated.tolist() == [False, True, False] * 2
    assert not found.query_truncated
    assert found.tokens[1] > found.tokens[0] > found.tokens[2] > 0
    assert not late.scored.any()
    assert not late.failed


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@given(seed=st.integers(0, 2**32 - 1), callers=st.integers(1, 8))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scores_are_those_of_one_caller_alone_with_any_threads_and_coroutines(
    tiny_artifact, scored, precision, seed, callers
):
    rng = np.random.default_rng(seed)
    requests = [rng.integers(0, len(scored.documents), size=rng.integers(0, 20)).tolist() for _ in range(callers * 2)]
    documents = [[scored.documents[index] for index in request] for request in requests]
    shared = make(tiny_artifact, precision=precision)
    sync = shared._reranker

    async def coroutines():
        return await asyncio.gather(*(shared.score(scored.query, texts) for texts in documents))

    with make(tiny_artifact, precision=precision)._reranker as reference:
        alone = [reference.score(scored.query, texts) for texts in documents]
    with ThreadPoolExecutor(callers + 1) as pool:
        threads = [pool.submit(sync.score, scored.query, texts) for texts in documents]
        loops = [pool.submit(asyncio.run, coroutines()) for _ in range(2)]
        found = [[future.result(WAIT) for future in threads], *(loop.result(WAIT) for loop in loops)]
    sync.close()
    for results in found:
        for together, apart in zip(results, alone, strict=True):
            if precision == "int8":
                assert together.tobytes() == apart.tobytes()
            else:
                np.testing.assert_allclose(together, apart, atol=1e-5)


def test_every_method_gives_what_the_synchronous_one_gives(tiny_artifact, scored):
    async def main():
        async with make(tiny_artifact) as engine:
            sync = engine._reranker
            texts = scored.documents[:12]
            pairs = [(query, text) for query in (scored.query, "who reads") for text in texts]
            prepared = await engine.prepare(texts)
            assert (await engine.score(scored.query, prepared)).tobytes() == sync.score(scored.query, texts).tobytes()
            assert (await engine.score_pairs(iter(pairs))).tobytes() == sync.score_pairs(pairs).tobytes()
            expected = sync.rank(scored.query, texts, top_k=5)
            assert await engine.rank(scored.query, iter(texts), top_k=5) == expected
            assert await engine.rank(scored.query, texts, top_k=5, deadline_ms=60_000) == expected
            assert await engine.rank(scored.query, prepared, top_k=5, deadline_ms=60_000) == expected
            assert [item async for item in engine.aiter_rank(scored.query, texts, top_k=5)][-1] == expected
            for method in (engine.score, engine.rank):
                with pytest.raises(InvalidInputError, match=r"documents\[1\]"):
                    await method("q", ["a", None])
            assert (await engine.rank("q", [])).documents == ()
            assert (await engine.score("q", [])).shape == (0,)
            assert engine.info() == sync.info()
            await engine.warmup()
            assert engine.health().ok

    asyncio.run(main())


def test_the_event_loop_goes_on_while_texts_are_encoded_and_scored(faked, monkeypatch):
    runner = FakeRunner(gated=True)
    engine = faked(runner)
    encoding = threading.Event()

    encoder = engine._reranker.loaded_model.encoder
    encode_documents = encoder.encode_documents

    def slow(texts):
        assert encoding.wait(WAIT)
        return encode_documents(texts)

    monkeypatch.setattr(encoder, "encode_documents", slow)

    async def main():
        task = asyncio.create_task(engine.score("q", ["a", "b"]))
        await asyncio.sleep(0.01)
        assert not task.done()
        encoding.set()
        await asyncio.to_thread(runner.wait_for_runs, 1)
        assert not task.done()
        runner.open_gate()
        assert (await task).shape == (2,)
        await engine.aclose()

    asyncio.run(main())


def test_a_call_that_times_out_leaves_the_queue(faked):
    runner = FakeRunner(workers=1, gated=True)
    engine = faked(runner)

    async def main():
        first = asyncio.create_task(engine.score("q", ["a", "b", "c"]))
        await asyncio.to_thread(runner.wait_for_runs, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.score("q", [f"b {index}" for index in range(100)]), 0.05)
        await until(lambda: engine.stats().waiting_requests == 1)
        runner.open_gate()
        await first
        assert len(runner.ran) == 3
        await engine.aclose()

    asyncio.run(main())


def test_ten_thousand_calls_cancelled_at_random_moments_leak_nothing_and_others_are_answered(faked, quick_collections):
    engine = faked(FakeRunner(workers=2))
    random_ = random.Random(3)

    async def main():
        expected = await engine.score("who", ["the river", "cold water"])
        documents = ["the river", "cold water"]
        prepared = await engine.prepare(documents)
        kept = []
        for _ in range(20):
            tasks = [asyncio.create_task(engine.score("who", prepared)) for _ in range(500)]
            keep = set(random_.sample(range(500), 25))
            for index, task in enumerate(tasks):
                if index not in keep:
                    if random_.random() < 0.3:
                        await asyncio.sleep(0)
                    task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            kept += [results[index] for index in keep]
            others = [result for index, result in enumerate(results) if index not in keep]
            assert all(
                isinstance(result, asyncio.CancelledError) or result.tobytes() == expected.tobytes()
                for result in others
            )
        assert all(result.tobytes() == expected.tobytes() for result in kept)

        def nothing_is_left():
            stats = engine.stats()
            done = stats.answered + stats.failures["cancelled"]
            return (stats.waiting_requests, stats.queue_tokens, done) == (0, 0, stats.requests)

        await until(nothing_is_left)
        encoded = weakref.ref(prepared.encoded)
        del prepared, task, tasks, results, others
        await until(lambda: gc.collect() >= 0 and encoded() is None)
        assert len(asyncio.all_tasks()) == 1
        await engine.aclose()

    asyncio.run(main())


def test_a_call_over_the_bound_is_refused_before_it_is_encoded(faked, monkeypatch):
    runner = FakeRunner(workers=1, gated=True)
    engine = faked(runner, max_queue_tokens=200)
    encoded = []
    encoder = engine._reranker.loaded_model.encoder
    encode_documents = encoder.encode_documents
    monkeypatch.setattr(encoder, "encode_documents", lambda texts: encoded.append(1) or encode_documents(texts))

    async def main():
        first = asyncio.create_task(engine.score("q", [f"cold water in winter {index}" for index in range(50)]))
        await asyncio.to_thread(runner.wait_for_runs, 1)
        assert len(encoded) == 1
        for call in (engine.score, engine.rank):
            with pytest.raises(Overloaded) as caught:
                await call("q", ["cold water in winter"])
            assert caught.value.retry_after > 0
            assert pickle.loads(pickle.dumps(caught.value)).retry_after == caught.value.retry_after
        assert len(encoded) == 1
        runner.open_gate()
        await first
        assert (await engine.score("q", ["cold water"])).shape == (1,)
        await engine.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("large_calls", [1, 3])
def test_a_small_call_goes_before_large_ones_and_only_who_would_wait_too_long_is_refused(
    faked, monkeypatch, large_calls
):
    cost = CostModel(run=1e-6, row=1e-6, token=1.5e-4, token_squared=0.0)
    monkeypatch.setattr(CostModel, "of", lambda *_: cost)
    runner = FakeRunner(workers=1, gated=True)
    engine = faked(runner, threads=1)

    def documents(count):
        return [f"cold water in winter {index}" for index in range(count)]

    async def main():
        large = []
        for count in range(1, large_calls + 1):
            large.append(asyncio.create_task(engine.score("q", documents(1000))))
            await until(lambda count=count: engine.stats().waiting_requests == count)
        await asyncio.to_thread(runner.wait_for_runs, 1)
        if large_calls == 3:
            with pytest.raises(Overloaded, match="this call would wait") as caught:
                await engine.score("q", documents(5000))
            assert caught.value.expected_wait > LONGEST_WAIT
            assert caught.value.retry_after == pytest.approx(caught.value.expected_wait - LONGEST_WAIT)
        small = asyncio.create_task(engine.score("q", documents(10)))
        await until(lambda: engine.stats().waiting_requests == large_calls + 1)
        in_flight = 2
        runner.let_go(10 + in_flight)
        assert (await asyncio.wait_for(small, WAIT)).shape == (10,)
        assert not any(task.done() for task in large)
        runner.open_gate()
        assert [len(await task) for task in large] == [1000] * large_calls
        assert engine.stats().failures.get("overloaded", 0) == (large_calls == 3)
        await engine.aclose()

    asyncio.run(main())


def test_a_call_as_large_as_those_that_wait_is_refused_once_it_would_wait_too_long(faked, monkeypatch):
    cost = CostModel(run=1e-6, row=1e-6, token=1.5e-4, token_squared=0.0)
    monkeypatch.setattr(CostModel, "of", lambda *_: cost)
    runner = FakeRunner(workers=1, gated=True)
    engine = faked(runner, threads=1)
    words = "winter engine results "
    pairs = [(f"{words * 2}{index}", words * 2) for index in range(1000)]

    async def main():
        waiting = []
        for count in range(1, 3):
            waiting.append(asyncio.create_task(engine.score_pairs(pairs)))
            await until(lambda count=count: engine.stats().waiting_requests == count)
        with pytest.raises(Overloaded, match="this call would wait") as caught:
            await asyncio.wait_for(engine.score_pairs(pairs), WAIT / 3)
        assert caught.value.expected_wait > LONGEST_WAIT
        runner.open_gate()
        assert [len(await task) for task in waiting] == [1000] * 2
        await engine.aclose()

    asyncio.run(main())


def test_texts_with_a_token_a_character_are_refused_once_they_would_wait_too_long_for_their_like(faked, monkeypatch):
    cost = CostModel(run=1e-6, row=1e-6, token=1.5e-4, token_squared=0.0)
    monkeypatch.setattr(CostModel, "of", lambda *_: cost)
    runner = FakeRunner(workers=1, gated=True)
    engine = faked(runner, threads=1)
    documents = [f"{'(?)' * 14} {index}" for index in range(1000)]

    async def main():
        waiting = asyncio.create_task(engine.score("q", documents))
        await until(lambda: engine.stats().waiting_requests == 1)
        assert engine.stats().queue_tokens > 2 * len("".join(documents)) / 4
        with pytest.raises(Overloaded, match="this call would wait") as caught:
            await asyncio.wait_for(engine.score("q", documents), WAIT / 3)
        assert caught.value.expected_wait > LONGEST_WAIT
        small = asyncio.create_task(engine.score("q", documents[:10]))
        await until(lambda: engine.stats().waiting_requests == 2)
        runner.open_gate()
        assert (len(await small), len(await waiting)) == (10, 1000)
        await engine.aclose()

    asyncio.run(main())


def test_errors_reach_their_own_caller(faked):
    def fail(arrays):
        if arrays.input_ids.shape[1] > 20:
            raise InferenceError("too long")

    engine = faked(FakeRunner(on_run=fail))

    async def main():
        long = "cold water " * 30
        results = await asyncio.gather(
            *(engine.score("q", ["cold", long] if index % 2 else ["cold"]) for index in range(20)),
            return_exceptions=True,
        )
        assert [isinstance(result, InferenceError) for result in results] == [bool(index % 2) for index in range(20)]
        await engine.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("drain", [True, False])
def test_closing_answers_every_call(faked, drain):
    runner = FakeRunner(workers=1, gated=True)
    engine = faked(runner)

    async def main():
        calls = [asyncio.create_task(engine.score("q", list("abcde"))) for _ in range(10)]
        await asyncio.to_thread(runner.wait_for_runs, 1)
        closing = asyncio.create_task(engine.aclose(drain=drain))
        await until(lambda: engine.health().closed)
        runner.open_gate()
        await closing
        results = await asyncio.gather(*calls, return_exceptions=True)
        if drain:
            assert all(result.shape == (5,) for result in results)
        else:
            assert all(isinstance(result, ClosedError) for result in results)
        with pytest.raises(ClosedError):
            await engine.score("q", ["a"])
        await engine.aclose()

    asyncio.run(main())


def test_a_call_that_still_encodes_when_closing_begins_gets_its_scores(faked, monkeypatch):
    engine = faked(FakeRunner())
    encoder = engine._reranker.loaded_model.encoder
    encoding, go_on = threading.Event(), threading.Event()
    original = encoder.encode_documents

    def slow(texts):
        encoding.set()
        assert go_on.wait(WAIT)
        return original(texts)

    monkeypatch.setattr(encoder, "encode_documents", slow)

    async def main():
        calls = [
            asyncio.create_task(call)
            for call in (
                engine.score("q", ["a"] * 3),
                engine.score_pairs([("q", "a")] * 3),
                engine.rank("q", ["a"] * 3),
                engine.rank("q", ["a"] * 3, deadline_ms=60_000),
            )
        ]
        await asyncio.to_thread(encoding.wait, WAIT)
        closing = asyncio.create_task(engine.aclose())
        await until(lambda: engine.health().closed)
        go_on.set()
        assert [len(result) for result in await asyncio.gather(*calls)] == [3] * 4
        await closing

    asyncio.run(main())


def test_a_deadline_gives_a_partial_ranking_and_refuses_partial_scores(faked):
    runner = FakeRunner(workers=1, gated=True)
    engine = faked(runner)
    runner.let_go(3)

    async def main():
        documents = [f"document {index}" for index in range(40)]
        ranking = await engine.rank("q", documents, deadline_ms=300)
        assert 1 <= ranking.scored <= 3
        assert ranking.unscored_because == "deadline"
        runner.let_go()  # the run that went on past the deadline
        with pytest.raises(DeadlineExceeded, match="of 40 pairs"):
            await engine.score("q", documents, deadline_ms=50)
        with pytest.raises(DeadlineExceeded, match="of 40 pairs"):
            await engine.score_pairs([("q", text) for text in documents], deadline_ms=50)
        runner.open_gate()
        await engine.aclose()

    asyncio.run(main())


def test_a_stream_that_is_left_early_drops_the_rest(faked):
    runner = FakeRunner(workers=1)
    engine = faked(runner)

    async def main():
        documents = [f"document {index} of many words in winter" for index in range(5000)]
        stream = engine.aiter_rank("q", documents)
        async for ranking in stream:
            assert ranking.unscored_because == "pending"
            break
        await stream.aclose()
        await until(lambda: engine.stats().waiting_requests == 0)
        ran = len(runner.ran)
        assert ran < 5000
        await engine.aclose()

    asyncio.run(main())


def test_it_pickles_as_its_configuration(tiny_artifact):
    async def main():
        async with make(tiny_artifact, max_queue_tokens=77) as engine:
            expected = await engine.score("q", ["the river"])
            async with pickle.loads(pickle.dumps(engine)) as again:
                assert (await again.score("q", ["the river"])).tobytes() == expected.tobytes()

    asyncio.run(main())


@pytest.mark.parametrize("limit", [None, 600_000])
def test_a_synchronous_close_on_the_event_loop_does_not_wait_for_what_needs_it(faked, limit):
    runner = FakeRunner(workers=1, gated=True)
    shared = faked(runner)
    sync = shared._reranker
    documents = [f"cold water {index}" for index in range(40)]

    async def main():
        task = asyncio.create_task(shared.score("q", documents, deadline_ms=limit))
        await until(lambda: runner.ran)
        runner.open_gate()
        sync.close()
        try:
            return await task
        except ClosedError:  # of a call in parts that had more to submit
            return limit

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(asyncio.run, main()).result(WAIT)
    assert found is not None
    assert found is limit or found.shape == (40,)


@pytest.mark.parametrize("closed_first", [True, False])
def test_a_task_of_a_loop_that_was_closed_keeps_nothing_from_closing(faked, closed_first):
    runner = FakeRunner(workers=1, gated=True)
    shared = faked(runner)
    loop = asyncio.new_event_loop()
    waiting = [
        loop.create_task(shared.score("q", [f"cold {number}" for number in range(40)], deadline_ms=limit))
        for limit in (None, 600_000)
    ]
    loop.run_until_complete(until(lambda: len(runner.ran) > 0))
    loop.run_until_complete(asyncio.sleep(0.05))
    runner.open_gate()
    with ThreadPoolExecutor(1) as pool:
        if closed_first:
            loop.close()
        closing = pool.submit(asyncio.run, shared.aclose())
        if not closed_first:
            with pytest.raises(TimeoutError):
                closing.result(0.3)
            loop.close()
        closing.result(WAIT)
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task._log_destroy_pending = False


def test_closing_does_not_wait_for_a_loop_that_its_own_thread_has_stopped_running(faked):
    runner = FakeRunner(workers=1, gated=True)
    shared = faked(runner)
    sync = shared._reranker
    finished = threading.Event()

    def run_and_close():
        with asyncio.Runner() as loops:
            loop = loops.get_loop()
            task = loop.create_task(shared.rank("q", [f"cold {number}" for number in range(40)], deadline_ms=600_000))
            loop.run_until_complete(until(lambda: len(runner.ran) > 0))
            runner.open_gate()
            sync.close()
            finished.set()
            with contextlib.suppress(ClosedError):  # of a call in parts that had more to submit
                loop.run_until_complete(task)

    thread = threading.Thread(target=run_and_close, daemon=True)
    thread.start()
    try:
        assert finished.wait(WAIT)
        thread.join(WAIT)
        assert not thread.is_alive()
    finally:
        sync.close(drain=False)


def test_nothing_is_prepared_after_closing(tiny_artifact):
    async def main():
        shared = make(tiny_artifact)
        await shared.aclose()
        with pytest.raises(ClosedError):
            await shared.prepare(["a"])

    before = set(threading.enumerate())  # some of other tests may end meanwhile
    asyncio.run(main())
    assert not set(threading.enumerate()) - before
