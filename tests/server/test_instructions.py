"""Instructions over HTTP: a request's own goes to the engine, and is refused where the model takes none."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from served_app import DOCUMENTS, QUERY, client_of
from tiny_artifacts import with_instruction

from crossrank import Reranker
from crossrank.server.settings import ModelSettings, read_settings

INSTRUCTION = "cold water"
BODIES = {
    "/v2/rerank": {"query": QUERY, "documents": DOCUMENTS},
    "/v1/rerank": {"query": QUERY, "documents": DOCUMENTS, "max_tokens_per_doc": 8},
    "/rerank": {"query": QUERY, "texts": DOCUMENTS},
    "/score": {"text_1": QUERY, "text_2": DOCUMENTS},
}


@pytest.fixture(scope="module")
def instructed(tiny_artifact, tmp_path_factory):
    return with_instruction(tiny_artifact, tmp_path_factory.mktemp("instructed") / "artifact")


def logits_of(path, answer):
    if path == "/rerank":
        found = {item["index"]: item["score"] for item in answer}
    elif path == "/score":
        found = {item["index"]: item["score"] for item in answer["data"]}
    else:
        found = {item["index"]: item["relevance_score"] for item in answer["results"]}
    return [found[index] for index in range(len(DOCUMENTS))]


@pytest.mark.parametrize("path", BODIES)
def test_a_requests_instruction_is_what_its_documents_are_judged_by(path, instructed):
    async def main():
        async with client_of(instructed) as client:
            answers = [
                await client.post(path, json=BODIES[path] | {"raw_scores": True, "instruction": instruction})
                for instruction in (INSTRUCTION, None)
            ]
        return [logits_of(path, answer.json()) for answer in answers]

    found, usual = asyncio.run(main())
    with Reranker(instructed, activation="identity") as reranker:
        documents = DOCUMENTS
        if "max_tokens_per_doc" in BODIES[path]:
            documents = reranker.prepare(DOCUMENTS).shortened(BODIES[path]["max_tokens_per_doc"])
        expected = reranker.score(QUERY, documents, instruction=INSTRUCTION)
        without = reranker.score(QUERY, documents)
    assert np.abs(expected - without).max() > 1e-3, "one that changes nothing would prove nothing"
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(usual, without, atol=1e-5, rtol=0)


def test_a_stream_is_judged_by_it_too(instructed):
    async def main():
        async with client_of(instructed) as client:
            body = BODIES["/v2/rerank"] | {"instruction": INSTRUCTION}
            whole = await client.post("/v2/rerank", json=body)
            streamed = await client.post("/v2/rerank", json=body | {"stream": True})
        return whole.json()["results"], streamed.text

    results, events = asyncio.run(main())
    assert len(results) == len(DOCUMENTS)
    assert all(str(item["relevance_score"]) in events for item in results)


@pytest.mark.parametrize("instruction", [INSTRUCTION, " ", 7])
@pytest.mark.parametrize("path", BODIES)
def test_one_that_the_model_cannot_take_is_refused(path, instruction, tiny_artifact):
    async def main():
        async with client_of(tiny_artifact) as client:
            return await client.post(path, json=BODIES[path] | {"instruction": instruction})

    answer = asyncio.run(main())
    assert answer.status_code == 422
    body = answer.json()
    assert (body["param"] if path == "/rerank" else body["error"]["param"]) == "instruction"
    if instruction == INSTRUCTION:
        assert "takes none" in body["message"]


def test_it_counts_as_text_of_the_request(instructed):
    async def main():
        async with client_of(instructed, max_characters=1000) as client:
            body = {"query": "q", "documents": ["d"]}
            few = await client.post("/v2/rerank", json=body | {"instruction": "i" * 900})
            many = await client.post("/v2/rerank", json=body | {"instruction": "i" * 1000})
        return few.status_code, many.status_code

    assert asyncio.run(main()) == (200, 422)


def test_a_models_instruction_and_label_are_settings(instructed, tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text(
        f'[models.a]\nsource = {str(instructed)!r}\ninstruction = "{INSTRUCTION}"\npositive_label = 0\n',
        encoding="utf-8",
    )
    settings, _ = read_settings({}, config_file=file, environment={})
    assert settings.models["a"] == ModelSettings(source=str(instructed), instruction=INSTRUCTION, positive_label=0)

    async def main():
        async with client_of(instructed, models=settings.models) as client:
            return (await client.post("/score", json=BODIES["/score"] | {"raw_scores": True})).json()

    with Reranker(instructed, activation="identity", instruction=INSTRUCTION) as reranker:
        expected = reranker.score(QUERY, DOCUMENTS)
    np.testing.assert_allclose(logits_of("/score", asyncio.run(main())), expected, atol=1e-5, rtol=0)
