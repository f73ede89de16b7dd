"""Requests of every API, answered as their clients expect, with the engine's scores."""

from __future__ import annotations

import asyncio
import inspect
import json

import numpy as np
import pytest
from served_app import DOCUMENTS, QUERY, client_of

RERANK_PATHS = ("/rerank", "/v1/rerank", "/v2/rerank")


def served(test):
    """Run a test's coroutine with a client of the service."""

    def run(tiny_artifact, expected):
        async def main():
            async with client_of(tiny_artifact) as client:
                arguments = {"client": client, "expected": expected}
                await test(*(arguments[name] for name in inspect.signature(test).parameters))

        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def post(client, path, status=200, **body):
    answer = await client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@served
async def test_every_rerank_path_answers_with_one_superset(client, expected):
    for path in RERANK_PATHS:
        answer = await post(client, path, model="tiny", query=QUERY, documents=DOCUMENTS)
        assert [item["index"] for item in answer["results"]] == expected.order
        scores = [item["relevance_score"] for item in answer["results"]]
        np.testing.assert_allclose(scores, expected.scores[expected.order], atol=1e-6)
        assert answer["object"] == "list"
        assert answer["model"] == "tiny"
        assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] > 0
        assert answer["id"]
        assert "incomplete" not in answer
        assert all("document" not in item for item in answer["results"])


@served
async def test_top_n_cuts_the_results_and_zero_gives_all(client, expected):
    two = await post(client, "/v2/rerank", query=QUERY, documents=DOCUMENTS, top_n=2)
    assert [item["index"] for item in two["results"]] == expected.order[:2]
    for top_n in (0, None, 100):
        answer = await post(client, "/v1/rerank", query=QUERY, documents=DOCUMENTS, top_n=top_n)
        assert len(answer["results"]) == len(DOCUMENTS)


@served
async def test_documents_come_back_only_where_asked_and_as_they_were(client):
    documents = ["a text", {"text": "another", "id": 7}]
    answer = await post(client, "/v1/rerank", query=QUERY, documents=documents, return_documents=True)
    returned = {item["index"]: item["document"] for item in answer["results"]}
    assert returned == {0: {"text": "a text"}, 1: {"text": "another", "id": 7}}


@served
async def test_rank_fields_are_read_in_their_order(client):
    fields = [{"title": "old café", "body": "wind"}, {"title": "results", "body": "harbour"}]
    by_fields = await post(
        client, "/v1/rerank", query=QUERY, documents=fields, rank_fields=["title", "body"], raw_scores=True
    )
    plain = await post(
        client, "/v1/rerank", query=QUERY, documents=["old café\nwind", "results\nharbour"], raw_scores=True
    )
    assert [(item["index"], item["relevance_score"]) for item in by_fields["results"]] == [
        (item["index"], item["relevance_score"]) for item in plain["results"]
    ]


@served
async def test_a_field_that_is_named_again_and_again_is_read_once(client):
    documents = [{"title": "old café", "text": "wind"}, {"text": "harbour"}]
    answer = await post(
        client, "/v1/rerank", query=QUERY, documents=documents, rank_fields=["text", "title", *["text", "no"] * 5000]
    )
    plain = await post(client, "/v1/rerank", query=QUERY, documents=["wind\nold café", "harbour"])
    assert answer["results"] == plain["results"]
    assert answer["usage"] == plain["usage"]


@served
async def test_documents_come_back_as_they_were_whichever_of_their_fields_are_read(client):
    documents = [{"title": "old café", "text": "wind"}, {"title": "results", "id": 7}, "a text"]
    body = {"query": QUERY, "documents": documents, "rank_fields": ["title", "text"], "return_documents": True}
    for more in ({}, {"max_tokens_per_doc": 5}):
        answer = await post(client, "/v1/rerank", **body, **more)
        returned = {item["index"]: item["document"] for item in answer["results"]}
        assert returned == {0: documents[0], 1: documents[1], 2: {"text": "a text"}}


@served
async def test_what_infinitys_client_sends_is_answered_as_it_reads_it(client, expected):
    # What it always sends, also of what its user leaves out; it raises at any other `object`, and reads FastAPI's 422.
    body = {"query": QUERY, "documents": DOCUMENTS, "return_documents": False, "raw_scores": False}
    answer = await post(client, "/rerank", **body, model="default/not-specified")
    assert answer["object"] == "rerank"
    assert answer["model"] == "tiny"
    assert [item["index"] for item in answer["results"]] == expected.order
    refused = await post(client, "/rerank", 422, **body | {"documents": ["a", {"title": "no text"}]})
    (mistake,) = refused["detail"]
    assert mistake == {"loc": ["body", "documents[1]"], "msg": refused["message"], "type": "invalid_input"}
    assert refused["message"].startswith("documents[1]")
    assert (await client.post("/rerank", json={**body, "model": "other"})).json()["detail"].startswith("model 'other'")


@served
async def test_raw_scores_are_logits(client, expected):
    answer = await post(client, "/rerank", query=QUERY, documents=DOCUMENTS, raw_scores=True)
    raw = [item["relevance_score"] for item in answer["results"]]
    np.testing.assert_array_equal(np.float32(raw), expected.logits[expected.order])


@served
async def test_vllms_word_for_logits_is_understood(client, expected):
    body = {"query": QUERY, "documents": DOCUMENTS}
    pairs = {"text_1": QUERY, "text_2": DOCUMENTS}
    for options, scale in (
        ({"use_activation": False}, expected.logits),
        ({"use_activation": True}, expected.scores),
        ({"use_activation": None}, expected.scores),
        ({"use_activation": False, "raw_scores": False}, expected.scores),
    ):
        ranked = await post(client, "/rerank", **body, **options)
        scores = [item["relevance_score"] for item in ranked["results"]]
        np.testing.assert_allclose(scores, scale[expected.order], atol=1e-6)
        scored = await post(client, "/score", **pairs, **options)
        np.testing.assert_allclose([item["score"] for item in scored["data"]], scale, atol=1e-6)


@served
async def test_limits_of_vllm_that_would_change_scores_are_refused_and_its_words_for_none_are_not(client):
    body, pairs = {"query": QUERY, "documents": ["a"]}, {"text_1": QUERY, "text_2": ["a"]}
    for path, asked in (("/rerank", body), ("/score", pairs)):
        for option in ({"max_tokens_per_query": 4}, {"truncation_side": "left"}):
            answer = await post(client, path, 422, **asked, **option)
            assert (answer["error"]["code"], answer["error"]["param"]) == ("not_supported", next(iter(option)))
        await post(client, path, **asked, max_tokens_per_query=0, truncation_side="right")
    answer = await post(client, "/score", 422, **pairs, max_tokens_per_doc=4)
    assert answer["error"]["param"] == "max_tokens_per_doc"
    await post(client, "/score", **pairs, max_tokens_per_doc=0)


@served
async def test_texts_get_the_bare_array_of_text_embeddings_inference(client, expected):
    answer = await post(client, "/rerank", query=QUERY, texts=DOCUMENTS, return_text=True)
    assert [item["index"] for item in answer] == expected.order
    assert [item["text"] for item in answer] == [DOCUMENTS[index] for index in expected.order]
    np.testing.assert_allclose([item["score"] for item in answer], expected.scores[expected.order], atol=1e-6)
    raw = await post(client, "/rerank", query=QUERY, texts=DOCUMENTS, raw_scores=True)
    np.testing.assert_array_equal(np.float32([item["score"] for item in raw]), expected.logits[expected.order])
    assert "text" not in raw[0]


@served
async def test_texts_that_must_not_be_cut_are_refused_with_their_position(client):
    texts = ["short", "wind " * 5000, "café " * 5000]
    for options in ({"truncate": False}, {"truncation_direction": "Left"}):
        answer = await client.post("/rerank", json={"query": QUERY, "texts": texts, **options})
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("texts[1] is longer")
        assert answer.json()["error_type"] == "Validation"
        assert await post(client, "/rerank", query=QUERY, texts=["short"], **options)
    assert len(await post(client, "/rerank", query=QUERY, texts=texts, truncation_direction="RIGHT")) == 3


@served
async def test_score_keeps_the_order_of_the_texts(client, expected):
    for path in ("/score", "/v1/score"):
        answer = await post(client, path, model="tiny", text_1=QUERY, text_2=DOCUMENTS, raw_scores=True)
        np.testing.assert_array_equal(np.float32([item["score"] for item in answer["data"]]), expected.logits)
        assert [item["index"] for item in answer["data"]] == list(range(len(DOCUMENTS)))
        assert {item["object"] for item in answer["data"]} == {"score"}
    queries = [QUERY, "another question", QUERY]
    pairs = await post(client, "/score", text_1=queries, text_2=DOCUMENTS[:3], raw_scores=True)
    scores = [item["score"] for item in pairs["data"]]
    assert np.float32(scores[0]) == expected.logits[0]
    assert np.float32(scores[2]) == expected.logits[2]
    other = await post(client, "/score", text_1="another question", text_2=DOCUMENTS[1], raw_scores=True)
    assert scores[1] == other["data"][0]["score"]


@served
async def test_every_answer_says_how_many_texts_were_cut(client):
    long, query = "wind tunnel " * 600, {"query": QUERY}
    texts = ["short", long, long + "models"]
    for path, body in (
        ("/score", {"text_1": QUERY, "text_2": texts}),
        ("/score", {"text_1": ["a", "b", "c"], "text_2": texts}),
        ("/rerank", {**query, "texts": texts}),
        ("/v2/rerank", {**query, "documents": texts}),
    ):
        assert (await client.post(path, json=body)).headers["X-Truncated"] == "2", path
    for path, body in (
        ("/score", {"text_1": long, "text_2": ["short"]}),
        ("/rerank", {"query": long, "texts": ["short"]}),
    ):
        assert (await client.post(path, json=body)).headers["X-Truncated"].endswith("; query"), path
    for path, body in (("/score", {"text_1": QUERY, "text_2": ["short"]}), ("/rerank", {**query, "texts": ["short"]})):
        assert "X-Truncated" not in (await client.post(path, json=body)).headers, path


@served
async def test_score_refuses_numbers_that_do_not_go_together(client):
    answer = await post(client, "/score", 422, text_1=["a", "b"], text_2=["c", "d", "e"])
    assert answer["error"]["param"] == "text_1"


@served
async def test_max_tokens_per_doc_reads_no_more_of_each_document(client):
    long = "wind tunnel results of the old harbour café and more words"
    whole = await post(client, "/v2/rerank", query=QUERY, documents=[long], raw_scores=True)
    large = await post(client, "/v2/rerank", query=QUERY, documents=[long], raw_scores=True, max_tokens_per_doc=4096)
    body = {"query": QUERY, "documents": [long], "raw_scores": True, "max_tokens_per_doc": 3}
    answer = await client.post("/v2/rerank", json=body)
    assert answer.headers["X-Truncated"] == "1"
    cut = answer.json()
    nothing = await post(client, "/v2/rerank", query=QUERY, documents=[""], raw_scores=True)
    assert large["results"] == whole["results"] != cut["results"]
    assert cut["usage"]["total_tokens"] == nothing["usage"]["total_tokens"] + 3 < whole["usage"]["total_tokens"]


def test_a_limit_of_tokens_may_be_any_number(tiny_artifact):
    models = {"windows": {"source": str(tiny_artifact), "long_documents": "windows"}}

    async def main():
        async with client_of(None, models=models) as client:
            body = {"query": QUERY, "documents": DOCUMENTS}
            whole = await post(client, "/v2/rerank", **body)
            large = await post(client, "/v2/rerank", **body, max_tokens_per_doc=10**40)
            assert large["results"] == whole["results"]

    asyncio.run(main())


@served
async def test_what_would_change_scores_and_is_not_served_is_refused(client):
    for option in ({"truncate_prompt_tokens": 8}, {"relevant_spans": {}}):
        answer = await post(client, "/v1/rerank", 422, query=QUERY, documents=["a"], **option)
        assert answer["error"]["param"] == next(iter(option))
    await post(client, "/v1/rerank", query=QUERY, documents=["a"], truncate_prompt_tokens=-1, max_chunks_per_doc=10)


@served
async def test_no_documents_give_no_results(client):
    assert (await post(client, "/v2/rerank", query=QUERY, documents=[]))["results"] == []
    assert await post(client, "/rerank", query=QUERY, texts=[]) == []
    assert (await post(client, "/score", text_1=QUERY, text_2=[]))["data"] == []


@served
async def test_unknown_fields_are_left_aside(client):
    answer = await post(client, "/v2/rerank", query=QUERY, documents=["a"], user="somebody", encoding_format="float")
    assert len(answer["results"]) == 1


@served
async def test_a_stream_ends_with_the_ranking_of_a_plain_call(client, expected):
    for how in ({"json": {"stream": True}}, {"json": {}, "headers": {"Accept": "text/event-stream"}}):
        body = {"query": QUERY, "documents": DOCUMENTS, **how.pop("json")}
        answer = await client.post("/v2/rerank", json=body, **how)
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [dict(line.split(": ", 1) for line in event.splitlines()) for event in answer.text.split("\n\n")[:-1]]
        assert [event["event"] for event in events[-2:]] == ["ranking", "done"]
        last = json.loads(events[-2]["data"])
        assert [item["index"] for item in last["results"]] == expected.order
        assert "incomplete" not in last


def test_models_are_found_by_name_and_the_first_serves_who_names_none(tiny_artifact):
    models = {
        "one": {"source": str(tiny_artifact)},
        "raw": {"source": str(tiny_artifact), "raw_scores": True},
        "fp32": {"source": str(tiny_artifact), "precision": "fp32"},
    }

    async def main():
        async with client_of(None, models=models) as client:
            assert len(client.service.models.rerankers) == 2  # equal settings share one
            answers = {
                name: await post(client, "/v2/rerank", query=QUERY, documents=DOCUMENTS, model=name)
                for name in ("one", "raw", "fp32", None)
            }
            assert [answers[name]["model"] for name in answers] == ["one", "raw", "fp32", "one"]
            assert answers[None]["results"] == answers["one"]["results"]
            scores = {name: answers[name]["results"][0]["relevance_score"] for name in answers}
            assert scores["one"] == pytest.approx(1 / (1 + np.exp(-scores["raw"])), abs=1e-6)
            missing = await client.post("/v2/rerank", json={"model": "none", "query": "q", "documents": ["d"]})
            assert missing.status_code == 404
            assert "one, raw, fp32" in missing.json()["message"]
            listed = (await client.get("/v1/models")).json()
            assert [model["id"] for model in listed["data"]] == ["one", "raw", "fp32"]
            info = (await client.get("/info?model=fp32")).json()
            assert (info["model_dtype"], info["served_as"]) == ("float32", "fp32")
            assert info["max_input_length"] == client.service.models.find("fp32").reranker.info().max_length

    asyncio.run(main())
