"""What is refused, with which status, and in a shape that every client reads."""

from __future__ import annotations

import asyncio
import json
import re
import threading

import pytest
from served_app import DOCUMENTS, QUERY, client_of
from stub_reranker import StubReranker, stub_opener

from crossrank.errors import InferenceError, ModelNotFoundError, Overloaded

BODY = {"query": QUERY, "documents": DOCUMENTS}
SCORING = {
    "/rerank": BODY,
    "/v1/rerank": BODY,
    "/v2/rerank": BODY,
    "/score": {"text_1": QUERY, "text_2": DOCUMENTS},
    "/v1/score": {"text_1": QUERY, "text_2": DOCUMENTS},
}


NO_JSON = (
    b"",
    b"{",
    b'{"query": "a", "documents": ["\xff"]}',
    b'{"query": "a", "documents": [{"text": "b", "c": NaN}]}',
)


def stubbed(test, stub=None, **settings):
    async def main():
        async with client_of("stub", opener=stub_opener(stub or StubReranker()), **settings) as client:
            await test(client)

    asyncio.run(main())


def refused(answer, status, code, param=None):
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["message"] == body["detail"] == body["error"]["message"]
    assert (body["error"]["code"], body["error"]["param"]) == (code, param)
    assert body["id"] == answer.headers["X-Request-Id"]
    return body


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": QUERY, "documents": ["a", "b", 3]}, "documents[2]"),
        ({"query": QUERY, "documents": ["a", {"title": "no text"}]}, "documents[1]"),
        ({"query": QUERY, "documents": ["a", None]}, "documents[1]"),
        ({"query": QUERY, "documents": "a text"}, "documents"),
        ({"query": QUERY}, "documents"),
        ({"documents": ["a"]}, "query"),
        ({"query": 5, "documents": ["a"]}, "query"),
        ({"query": QUERY, "documents": ["a"], "top_n": -1}, "top_n"),
        ({"query": QUERY, "documents": ["a"], "top_n": "2"}, "top_n"),
        ({"query": QUERY, "documents": ["a"], "max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"query": QUERY, "documents": ["a"], "deadline_ms": -1}, "deadline_ms"),
        ({"query": QUERY, "documents": ["a"], "return_documents": "yes"}, "return_documents"),
        ({"query": QUERY, "documents": ["a", {"text": "b"}], "rank_fields": ["title"]}, "documents[1]"),
    ],
)
def test_a_bad_item_is_422_with_its_position(tiny_artifact, body, param):
    async def main():
        async with client_of(tiny_artifact) as client:
            refused(await client.post("/v2/rerank", json=body), 422, "invalid_input", param)

    asyncio.run(main())


def test_bad_texts_are_refused_as_text_embeddings_inference_does():
    async def check(client):
        answer = await client.post("/rerank", json={"query": QUERY, "texts": ["a", 1]})
        assert answer.status_code == 422
        assert answer.json()["error"] == answer.json()["message"]
        assert answer.json()["error_type"] == "Validation"
        assert answer.json()["param"] == "texts[1]"

    stubbed(check)


def test_what_is_no_json_object_is_422():
    async def check(client):
        for content in NO_JSON:
            answer = await client.post("/v2/rerank", content=content, headers={"Content-Type": "application/json"})
            refused(answer, 422, "invalid_json")
        for content in (b"[]", b"3", b'"text"', b"null"):
            answer = await client.post("/v2/rerank", content=content, headers={"Content-Type": "application/json"})
            refused(answer, 422, "invalid_input")

    stubbed(check)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ('"documents": ["a", {"text": "b", "n": 1e999}]', "documents[1]"),
        ('"documents": [{"text": "b", "n": {"of": [0.5, -1e999]}}]', "documents[0]"),
        ('"documents": ["a"], "deadline_ms": 1e999', "deadline_ms"),
        ('"documents": ["a"], "deadline_ms": 1' + "0" * 400, "deadline_ms"),
        ('"documents": ["a"], "first_stage_scores": [1e999]', "first_stage_scores[0]"),
    ],
)
def test_numbers_that_no_answer_could_give_back_are_422(fields, param):
    async def check(client):
        for option in ("return_documents", "stream"):
            content = f'{{"query": "q", "return_documents": true, "{option}": true, {fields}}}'
            answer = await client.post("/v2/rerank", content=content, headers={"Content-Type": "application/json"})
            refused(answer, 422, "invalid_input", param)

    stubbed(check)


def test_too_many_documents_are_refused_before_their_fields_are_read():
    async def check(client):
        documents = [{"title": "a"}, {"title": 5}, {"title": "c"}]
        body = {"query": QUERY, "documents": documents, "rank_fields": ["title"]}
        refused(await client.post("/v1/rerank", json=body), 422, "too_many_documents", "documents[2]")

    stubbed(check, max_documents=2)


@pytest.mark.parametrize(
    ("path", "body", "bad"),
    [
        ("/v2/rerank", {"query": "q"}, "documents"),
        ("/v2/rerank", {"query": "q", "documents": ["a"]}, "first_stage_scores"),
        ("/v2/rerank", {"query": "q", "documents": ["a"]}, "rank_fields"),
        ("/rerank", {"query": "q"}, "texts"),
        ("/score", {"text_1": "q"}, "text_2"),
        ("/score", {"text_2": "d"}, "text_1"),
    ],
)
def test_of_a_list_that_is_wrong_all_over_only_the_first_item_is_looked_at(path, body, bad):
    async def check(client):
        answer = await client.post(path, json={**body, bad: [None] * 1000})
        assert answer.status_code == 422
        found = re.search(r"problems in all: (\d+)", answer.json()["message"])
        assert found is None or int(found[1]) <= 3

    stubbed(check)


def test_others_are_served_while_the_values_of_a_large_body_are_looked_through(monkeypatch):
    answered = threading.Event()

    def look_through(body):
        assert "more" not in body or answered.wait(5), "nobody else was served"

    monkeypatch.setattr("crossrank.server.rerank_routes.check_finite", look_through)

    async def check(client):
        large = asyncio.create_task(client.post("/v2/rerank", json={**BODY, "more": [0] * 300_000}))
        await asyncio.sleep(0)
        assert (await client.post("/v2/rerank", json=BODY)).status_code == 200
        answered.set()
        assert (await large).status_code == 200

    stubbed(check)


def test_other_content_types_and_encodings_are_415():
    async def check(client):
        content = json.dumps(BODY).encode()
        for headers in (
            {"Content-Type": "text/plain"},
            {},
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        ):
            refused(await client.post("/v2/rerank", content=content, headers=headers), 415, "unsupported_media_type")
        answer = await client.post(
            "/v2/rerank", content=content, headers={"Content-Type": "Application/JSON; charset=utf-8"}
        )
        assert answer.status_code == 200

    stubbed(check)


def test_a_body_that_is_too_large_is_413_announced_or_not():
    sent = []

    async def parts():
        for _ in range(50):
            sent.append(1)
            yield b"x" * 100

    async def check(client):
        headers = {"Content-Type": "application/json"}
        refused(await client.post("/v2/rerank", content=b"x" * 1001, headers=headers), 413, "body_too_large")
        refused(await client.post("/v2/rerank", content=parts(), headers=headers), 413, "body_too_large")
        assert client.service.bodies.bytes == client.service.bodies.bodies == 0

    stubbed(check, max_body_bytes=1000)


def test_too_many_documents_or_characters_are_refused_with_the_first_too_many():
    async def check(client):
        many = await client.post("/v2/rerank", json={"query": "q", "documents": ["a"] * 6})
        refused(many, 422, "too_many_documents", "documents[5]")
        long = await client.post("/v2/rerank", json={"query": "q", "documents": ["a" * 40, {"text": "b" * 60}]})
        refused(long, 422, "too_many_characters", "documents[1]")
        score = await client.post("/score", json={"text_1": "q" * 90, "text_2": ["a" * 20]})
        refused(score, 422, "too_many_characters", "text_2[0]")
        for documents in ([], ["a"]):
            query = await client.post("/v2/rerank", json={"query": "q" * 101, "documents": documents})
            refused(query, 422, "too_many_characters", "query")
            texts = await client.post("/rerank", json={"query": "q" * 101, "texts": documents})
            assert (texts.status_code, texts.json()["param"]) == (422, "query")
        queries = await client.post("/score", json={"text_1": "q" * 101, "text_2": ["a"]})
        refused(queries, 422, "too_many_characters", "text_1")
        assert (await client.post("/v2/rerank", json={"query": "q", "documents": ["a"] * 5})).status_code == 200

    stubbed(check, max_documents=5, max_characters=100)


def test_overload_is_429_with_the_engines_estimate():
    def fault(_):
        raise Overloaded("this call would wait too long", retry_after=2.4, expected_wait=6.4)

    async def check(client):
        for path, body in SCORING.items():
            answer = await client.post(path, json=body)
            refused(answer, 429, "overloaded")
            assert answer.headers["Retry-After"] == "3"
            assert answer.headers["Retry-After-Ms"] == "2400"
            assert answer.json()["error"]["retry_after"] == 2.4
        texts = await client.post("/rerank", json={"query": QUERY, "texts": DOCUMENTS})
        assert (texts.status_code, texts.json()["error_type"]) == (429, "Overloaded")
        streamed = await client.post("/v2/rerank", json={**BODY, "stream": True})
        assert streamed.status_code == 200  # its first ranking was there before the refusal
        assert "event: error" in streamed.text

    stubbed(check, StubReranker(fault=fault))


def test_a_failing_model_is_500_and_424_for_text_embeddings_inference():
    def fault(_):
        raise InferenceError("onnxruntime failed")

    async def check(client):
        refused(await client.post("/v2/rerank", json=BODY), 500, "inference_failed")
        texts = await client.post("/rerank", json={"query": QUERY, "texts": DOCUMENTS})
        assert (texts.status_code, texts.json()["error_type"]) == (424, "Backend")

    stubbed(check, StubReranker(fault=fault))


def test_every_scoring_route_asks_for_a_key_and_reads_nothing_before(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# ours\nfirst-key\n\n  second-key  \n", encoding="utf-8")
    stub = StubReranker()

    async def check(client):
        for path, body in SCORING.items():
            for wrong in (
                None,
                "Bearer",
                "Bearer ",
                "Bearer first",
                "Bearer first-key2",
                "Basic first-key",
                "first-key",
            ):
                headers = {} if wrong is None else {"Authorization": wrong}
                answer = await client.post(path, json=body, headers=headers)
                refused(answer, 401, "invalid_api_key")
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            large = await client.post(path, content=b"x" * 10**6, headers={"Content-Type": "application/json"})
            refused(large, 401, "invalid_api_key")
            for right in ("Bearer first-key", "bearer second-key"):
                assert (await client.post(path, json=body, headers={"Authorization": right})).status_code == 200
        assert len(stub.calls) == 2 * len(SCORING)
        for open_to_all in ("/health", "/ready", "/metrics", "/info"):
            assert (await client.get(open_to_all)).status_code == 200

    stubbed(check, stub, keys_file=str(keys), max_body_bytes=10_000)


def test_bodies_at_once_are_bounded_by_number_and_bytes():
    async def check(client):
        headers = {"Content-Type": "application/json"}
        release = asyncio.Event()
        content = json.dumps(BODY).encode()

        async def slow():
            yield content[:10]
            await release.wait()
            yield content[10:]

        held = [asyncio.create_task(client.post("/v2/rerank", content=slow(), headers=headers)) for _ in range(2)]
        while client.service.bodies.bytes < 20:
            await asyncio.sleep(0.01)
        answer = await client.post("/v2/rerank", json=BODY)
        refused(answer, 429, "too_many_bodies")
        assert answer.headers["Retry-After"] == "1"
        release.set()
        assert [(await one).status_code for one in held] == [200, 200]
        assert (await client.post("/v2/rerank", json=BODY)).status_code == 200

    stubbed(check, max_concurrent_bodies=2)

    async def check_bytes(client):
        headers = {"Content-Type": "application/json"}
        release = asyncio.Event()

        async def slow():
            yield b" " * 700
            await release.wait()
            yield json.dumps({"query": "q", "documents": ["a"]}).encode()

        held = asyncio.create_task(client.post("/v2/rerank", content=slow(), headers=headers))
        while not client.service.bodies.bytes:
            await asyncio.sleep(0.01)
        answer = await client.post("/v2/rerank", content=b" " * 400, headers=headers)
        refused(answer, 429, "too_many_bodies")
        release.set()
        assert (await held).status_code == 200
        assert client.service.bodies.bytes == 0

    stubbed(check_bytes, max_body_bytes=1000, max_buffered_bytes=1000)


def test_a_body_that_stalls_is_408():
    async def check(client):
        # httpx sends a whole part before it looks for an answer, so the application is asked itself.
        sent, given = [], [{"type": "http.request", "body": b"{", "more_body": True}]

        async def receive():
            return given.pop() if given else await asyncio.sleep(3600)

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v2/rerank",
            "raw_path": b"/v2/rerank",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        await client._transport.app(scope, receive, send)
        assert sent[0]["status"] == 408
        assert (b"connection", b"close") in sent[0]["headers"]

    stubbed(check, stall_timeout=0.05)


def test_503_while_draining_and_on_every_probe_that_asks():
    async def check(client):
        client.service.draining = True
        refused(await client.post("/v2/rerank", json=BODY), 503, "draining")
        assert (await client.get("/ready")).json()["status"] == "draining"
        assert (await client.get("/health")).status_code == 200

    stubbed(check)


@pytest.mark.parametrize("error", [ModelNotFoundError, OSError, RuntimeError, MemoryError])
def test_503_while_models_are_loaded_and_when_that_fails(error, caplog):
    import threading

    import httpx
    from served_app import running_app

    from crossrank.server.app import create_app
    from crossrank.server.settings import ServerSettings

    go, fail, told = threading.Event(), [], []

    def opener(settings, threads):
        go.wait(30)
        if fail:
            raise error("nothing goes by that name")
        return StubReranker()

    async def main():
        app = create_app(
            ServerSettings(), opener=opener, on_start=lambda service: service.on_failure(lambda: told.append(1))
        )
        async with (
            running_app(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
        ):
            answer = await client.post("/v2/rerank", json=BODY)
            refused(answer, 503, "not_ready")
            assert int(answer.headers["Retry-After"]) >= 1
            assert (await client.get("/ready")).status_code == 503
            assert (await client.get("/health")).status_code == 200
            fail.append(True)
            go.set()
            async with asyncio.timeout(10):
                while not told:
                    await asyncio.sleep(0.01)
            assert "nothing goes by that name" in (await client.get("/health")).json()["error"]
            assert (await client.get("/ready")).json()["status"] == "failed"

    with caplog.at_level("ERROR", "crossrank.server"):
        asyncio.run(main())
    logged = [record for record in caplog.records if "the models could not be loaded" in record.getMessage()]
    assert [bool(record.exc_info) for record in logged] == [error in (RuntimeError, MemoryError)]


def test_unknown_routes_and_methods_have_the_same_shape():
    async def check(client):
        refused(await client.get("/v3/rerank"), 404, "not_found")
        refused(await client.get("/v2/rerank"), 405, "method_not_allowed")

    stubbed(check)


def test_a_request_id_is_given_back_if_it_is_harmless():
    async def check(client):
        for given, kept in (("abc-123", True), ("a b", False), ("x" * 200, False), ('"\n', False)):
            answer = await client.post("/v2/rerank", json=BODY, headers={"X-Request-Id": given.replace("\n", "")})
            assert (answer.headers["X-Request-Id"] == given) is kept
            assert answer.json()["id"] == answer.headers["X-Request-Id"]

    stubbed(check)
