"""Deadlines over HTTP, answers that are not complete, and clients that go away."""

from __future__ import annotations

import asyncio
import json

import pytest
from served_app import DOCUMENTS, QUERY, client_of
from stub_reranker import StubReranker, stub_opener

from crossrank.errors import InferenceError

BODY = {"query": QUERY, "documents": DOCUMENTS}
TEXTS = {"query": QUERY, "texts": DOCUMENTS}


def stubbed(stub, test, **settings):
    async def main():
        async with client_of("stub", opener=stub_opener(stub), **settings) as client:
            await test(client)

    asyncio.run(main())


def test_at_the_deadline_what_is_scored_is_answered_with_the_positions_of_the_rest():
    async def check(client):
        answer = await client.post("/v2/rerank", json=BODY, headers={"X-Deadline-Ms": "100"})
        assert answer.status_code == 200
        assert answer.headers["X-Incomplete"] == "deadline; unscored=2"
        body = answer.json()
        assert body["incomplete"] == {"because": "deadline", "scored": len(DOCUMENTS) - 2, "unscored": [4, 1]}
        assert {item["index"] for item in body["results"]} == set(range(len(DOCUMENTS))) - {4, 1}
        texts = await client.post("/rerank", json={**TEXTS, "deadline_ms": 100})
        assert texts.headers["X-Incomplete"] == "deadline; unscored=2"
        assert {item["index"] for item in texts.json()} == set(range(len(DOCUMENTS))) - {4, 1}

    stubbed(StubReranker(unscored=(4, 1)), check)


def test_all_or_nothing_is_504_and_so_is_a_score_route_that_has_not_all():
    async def check(client):
        for path, body in (
            ("/v2/rerank", {**BODY, "all_or_nothing": True}),
            ("/rerank", {**TEXTS, "all_or_nothing": True}),
            ("/score", {"text_1": QUERY, "text_2": DOCUMENTS}),
        ):
            answer = await client.post(path, json={**body, "deadline_ms": 100})
            assert answer.status_code == 504, path
            assert "5 of 7 documents" in answer.json()["message"]

    stubbed(StubReranker(unscored=(4, 1)), check)


def test_documents_that_fail_are_named_and_the_others_scored():
    async def check(client):
        answer = (await client.post("/v2/rerank", json=BODY)).json()
        assert answer["incomplete"]["because"] == "failed"
        assert answer["incomplete"]["failures"] == {"2": "not a number"}
        assert len(answer["results"]) == len(DOCUMENTS) - 1
        everything = await client.post("/v2/rerank", json={**BODY, "all_or_nothing": True})
        assert (everything.status_code, everything.json()["error"]["param"]) == (500, "documents[2]")
        backend = await client.post("/rerank", json={**TEXTS, "all_or_nothing": True})
        assert (backend.status_code, backend.json()["error_type"]) == (424, "Backend")
        for queries in (QUERY, list("abcdefg"), ["a", *"bbbbbb"]):
            score = await client.post("/score", json={"text_1": queries, "text_2": DOCUMENTS})
            assert (score.status_code, score.json()["error"]["param"]) == (500, "text_2[2]"), queries

    stubbed(StubReranker(unscored=(2,), because="failed"), check)


def test_a_score_request_with_many_queries_is_one_call_and_waits_for_no_part_of_itself():
    stub = StubReranker(unscored=(4, 1))

    async def check(client):
        for queries in ([f"question {number}" for number in range(len(DOCUMENTS))], [*"aabbaab"]):
            stub.calls.clear()
            answer = await client.post("/score", json={"text_1": queries, "text_2": DOCUMENTS, "deadline_ms": 100})
            assert len(stub.calls) == 1
            assert answer.status_code == 504
            assert "5 of 7 documents" in answer.json()["message"]

    stubbed(stub, check)


def test_header_and_field_set_the_deadline_and_the_earlier_one_counts():
    stub = StubReranker()

    async def check(client):
        for header, field, most in ((None, None, None), ("9000", None, 9000), (None, 8000, 8000), ("7000", 8000, 7000)):
            await client.post(
                "/v2/rerank",
                json={**BODY, **({} if field is None else {"deadline_ms": field})},
                headers={} if header is None else {"X-Deadline-Ms": header},
            )
            given = stub.calls[-1].deadline_ms
            assert (given is None) if most is None else (most - 5000 < given < most)
        for wrong in ("soon", "-1", "nan", "inf"):
            answer = await client.post("/v2/rerank", json=BODY, headers={"X-Deadline-Ms": wrong})
            assert answer.status_code == 422
            assert answer.json()["error"]["param"] == "X-Deadline-Ms"

    stubbed(stub, check)


def test_a_deadline_that_nobody_named_is_the_services():
    stub = StubReranker()

    async def check(client):
        await client.post("/v2/rerank", json=BODY)
        assert 0 < stub.calls[-1].deadline_ms <= 4000
        await client.post("/v2/rerank", json={**BODY, "deadline_ms": 9000})
        assert stub.calls[-1].deadline_ms > 4000

    stubbed(stub, check, default_deadline_ms=4000)


def test_priority_and_first_stage_scores_reach_the_engine():
    stub = StubReranker()

    async def check(client):
        for priority, engine in ((0, 0), (1, -1), (999, -4)):
            await client.post("/v2/rerank", json={**BODY, "priority": priority})
            assert stub.calls[-1].priority == engine
        await client.post("/v2/rerank", json={**BODY, "first_stage_scores": list(range(len(DOCUMENTS)))})
        assert stub.calls[-1].first_stage_scores == list(range(len(DOCUMENTS)))

    stubbed(stub, check)


@pytest.mark.parametrize("deadline", [0, 3, 20])
def test_the_engines_own_partial_rankings_lose_no_document(tiny_artifact, deadline):
    documents = [f"wind tunnel {number} " * 20 for number in range(1500)]

    async def main():
        async with client_of(tiny_artifact) as client:
            answer = await client.post(
                "/v2/rerank", json={"query": QUERY, "documents": documents, "deadline_ms": deadline}
            )
            assert answer.status_code == 200
            body = answer.json()
            scored = {item["index"] for item in body["results"]}
            unscored = body.get("incomplete", {"unscored": []})["unscored"]
            assert len(scored) + len(unscored) == len(documents)
            assert scored | set(unscored) == set(range(len(documents)))
            if deadline == 0:
                assert not scored

    asyncio.run(main())


def test_a_deadline_ends_the_encoding_of_documents_of_which_less_is_read():
    stub = StubReranker()

    async def never(documents):
        await asyncio.Event().wait()

    stub.prepare = never

    async def check(client):
        body = {**BODY, "max_tokens_per_doc": 8, "deadline_ms": 50, "first_stage_scores": [*range(len(DOCUMENTS))]}
        last_first = list(range(len(DOCUMENTS)))[::-1]
        async with asyncio.timeout(10):
            answer = await client.post("/v2/rerank", json=body)
            assert answer.json()["results"] == []
            assert answer.json()["incomplete"] == {"because": "deadline", "scored": 0, "unscored": last_first}
            streamed = await client.post("/v2/rerank", json={**body, "stream": True})
            event, done = streamed.text.split("\n\n")[:-1]
            assert json.loads(event.split("data: ")[1])["incomplete"]["unscored"] == last_first
            assert done.startswith("event: done")
            everything = await client.post("/v2/rerank", json={**body, "all_or_nothing": True})
            assert everything.status_code == 504
            wrong = await client.post("/v2/rerank", json={**body, "documents": ["a", {"title": "b"}]})
            assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "documents[1]")

    stubbed(stub, check)


async def ask(app, body, receive_more, path=b"/v2/rerank"):
    """Call the application with a body; `receive_more` gives what comes after it. Returns what was sent."""
    sent, messages = [], [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive():
        return messages.pop() if messages else await receive_more()

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path.decode(),
        "raw_path": path,
        "headers": headers,
        "query_string": b"",
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    return sent


def test_a_client_that_hangs_up_leaves_the_queue(tiny_artifact):
    documents = [f"wind tunnel {number} " * 60 for number in range(3000)]

    async def main():
        async with client_of(tiny_artifact) as client:
            app, reranker = client._transport.app, client.service.models.rerankers[0]
            begun, loop = asyncio.Event(), asyncio.get_running_loop()
            reranker.observe_batches(lambda _: loop.call_soon_threadsafe(begun.set))

            async def hang_up():
                await begun.wait()
                return {"type": "http.disconnect"}

            await ask(app, {"query": QUERY, "documents": documents}, hang_up)
            while (stats := reranker.stats()).waiting_requests or stats.queue_tokens:
                await asyncio.sleep(0.01)
            assert stats.pairs < len(documents)
            assert client.service.in_progress == 0
            assert "crossrank_hung_up_total 1.0" in (await client.get("/metrics")).text

    asyncio.run(main())


def test_a_stream_that_nobody_reads_on_is_dropped():
    stub = StubReranker(fault=lambda _: 3600)

    async def check(client):
        async def hang_up():
            while not stub.calls:
                await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        sent = await ask(client._transport.app, {**BODY, "stream": True}, hang_up)
        assert b"event: ranking" in sent[1]["body"]
        while not stub.cancelled:
            await asyncio.sleep(0.01)
        assert client.service.in_progress == 0
        assert "crossrank_hung_up_total 1.0" in (await client.get("/metrics")).text

    stubbed(stub, check)


def test_a_stream_shows_pending_documents_and_reports_a_failure_as_an_event():
    def fault(query):
        if query == "bad":
            raise InferenceError("the graph failed")

    async def check(client):
        answer = await client.post("/v2/rerank", json={**BODY, "stream": True})
        first, last, done = answer.text.split("\n\n")[:-1]
        pending = json.loads(first.split("data: ")[1])
        assert pending["incomplete"]["because"] == "pending"
        assert pending["incomplete"]["unscored"] == [3, 4, 5, 6]
        assert "incomplete" not in json.loads(last.split("data: ")[1])
        assert done.startswith("event: done")
        failed = await client.post("/v2/rerank", json={**BODY, "query": "bad", "stream": True})
        assert failed.text.split("\n\n")[1].startswith("event: error\n")
        assert "the graph failed" in failed.text

    stubbed(StubReranker(fault=fault), check)
