"""Clients that exist already, unchanged, over a socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import cohere
import httpx
import pytest
from client_environments import python_of
from cohere.core import ApiError
from served_app import server_process, stub_server
from stub_reranker import StubReranker

from crossrank import Overloaded, Reranker
from crossrank.models.embedded import embedded_artifact

QUERY = "how do vaccines teach the immune system"
DOCUMENTS = [
    "Stock prices fell on Monday.",
    "Vaccines show the immune system a harmless piece of a germ, and it remembers.",
    "Bees make honey from nectar.",
    "A vaccine trains immune cells to recognise a virus.",
    "Steel is iron with a little carbon.",
]


@pytest.fixture(scope="module")
def expected():
    with Reranker(activation="sigmoid") as reranker:
        return [(item.index, item.score) for item in reranker.rank(QUERY, DOCUMENTS)]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("key\n", encoding="utf-8")
    with server_process("--keys-file", str(keys)) as server:
        yield server.url


def close(results, expected):
    assert [index for index, _ in results] == [index for index, _ in expected]
    assert [score for _, score in results] == pytest.approx([score for _, score in expected], abs=1e-6)


def test_cohere_v2(url, expected):
    client = cohere.ClientV2(api_key="key", base_url=url)
    answer = client.rerank(model="default", query=QUERY, documents=DOCUMENTS)
    close([(item.index, item.relevance_score) for item in answer.results], expected)
    assert answer.id
    assert answer.meta.tokens.input_tokens > 0
    two = client.rerank(model="default", query=QUERY, documents=DOCUMENTS, top_n=2, max_tokens_per_doc=4096, priority=3)
    close([(item.index, item.relevance_score) for item in two.results], expected[:2])


def test_cohere_v1(url, expected):
    client = cohere.Client(api_key="key", base_url=url)
    documents = [{"text": text, "place": place} for place, text in enumerate(DOCUMENTS)]
    answer = client.rerank(
        query=QUERY, documents=documents, top_n=3, return_documents=True, rank_fields=["text"], max_chunks_per_doc=10
    )
    close([(item.index, item.relevance_score) for item in answer.results], expected[:3])
    assert [item.document.text for item in answer.results] == [DOCUMENTS[index] for index, _ in expected[:3]]
    assert [item.document.place for item in answer.results] == [index for index, _ in expected[:3]]


def test_cohere_async_with_a_deadline(url):
    async def main():
        client = cohere.AsyncClientV2(api_key="key", base_url=url)
        answer = await client.rerank(
            model="default",
            query=QUERY,
            documents=DOCUMENTS,
            request_options={"additional_headers": {"X-Deadline-Ms": "0"}},
        )
        assert answer.results == []
        assert sorted(answer.incomplete["unscored"]) == list(range(len(DOCUMENTS)))

    asyncio.run(main())


def test_cohere_reads_the_errors(url):
    client = cohere.ClientV2(api_key="wrong", base_url=url)
    with pytest.raises(cohere.UnauthorizedError) as refused:
        client.rerank(model="default", query=QUERY, documents=DOCUMENTS)
    assert "Authorization: Bearer" in refused.value.body["message"]
    client = cohere.ClientV2(api_key="key", base_url=url)
    with pytest.raises(cohere.NotFoundError):
        client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS)
    with pytest.raises(cohere.UnprocessableEntityError) as bad:
        client.rerank(model="default", query=QUERY, documents=["a", 1])
    assert bad.value.body["error"]["param"] == "documents[1]"


def test_cohere_waits_as_long_as_it_is_told_and_tries_again():
    calls = []

    def fault(_):
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise Overloaded("busy", retry_after=0.3, expected_wait=5.0)

    with stub_server(StubReranker(fault=fault)) as url:
        answer = cohere.ClientV2(api_key="key", base_url=url).rerank(model="stub", query="q", documents=["a", "b"])
    assert len(answer.results) == 2
    assert len(calls) == 2
    assert calls[1] - calls[0] >= 0.3
    with stub_server(StubReranker(fault=_always_busy)) as url, pytest.raises(ApiError) as refused:
        cohere.ClientV2(api_key="key", base_url=url).rerank(
            model="stub", query="q", documents=["a"], request_options={"max_retries": 0}
        )
    assert refused.value.status_code == 429


def _always_busy(_):
    raise Overloaded("busy", retry_after=0.3, expected_wait=5.0)


def test_requests_of_text_embeddings_inference(url, expected):
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer key"}) as client:
        body = {"query": QUERY, "texts": DOCUMENTS, "truncate": True, "raw_scores": False, "return_text": False}
        answer = client.post("/rerank", json=body)
        close([(item["index"], item["score"]) for item in answer.json()], expected)
        info = client.get("/info").json()
        assert set(info) >= {
            "model_id", "model_sha", "model_dtype", "model_type", "max_concurrent_requests", "max_input_length",
            "max_batch_tokens", "max_batch_requests", "max_client_batch_size", "auto_truncate", "tokenization_workers",
            "version",
        }  # fmt: skip
        assert "reranker" in info["model_type"]


def test_langchain_and_llamaindex(url, expected):
    done = subprocess.run(
        [python_of("chains"), Path(__file__).parent / "clients" / "ask_with_chains.py", url, QUERY],
        input=json.dumps(DOCUMENTS),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert set(results) == {"langchain cohere", "langchain jina", "llamaindex tei", "llamaindex cohere"}
    for ranked in results.values():
        close(ranked, expected[:3])


def test_infinity(url, expected):
    done = subprocess.run(
        [python_of("infinity"), Path(__file__).parent / "clients" / "ask_with_infinity.py", url, QUERY],
        input=json.dumps(DOCUMENTS),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    close(read["ranked"], expected[:3])
    location, message = read["mistake"]
    assert location == ["body", "documents[5]"]
    assert message.startswith("documents[5]: ")


@pytest.mark.parametrize("endpoint", ["cohere-rankings", "hf-tei-rankings"])
def test_aiperf(url, tmp_path, endpoint):
    rows = [{"texts": [{"name": "query", "contents": [QUERY]}, {"name": "passages", "contents": DOCUMENTS}]}]
    file = tmp_path / "requests.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    program = python_of("aiperf").parent / "aiperf"
    tokenizer = tmp_path / "tokenizer"  # its own would be fetched
    tokenizer.mkdir()
    shutil.copy(embedded_artifact() / "tokenizer.json", tokenizer)
    (tokenizer / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8")
    options = ["profile", "--model", "default", "--endpoint-type", endpoint, "--url", url, "--api-key", "key"]
    options += ["--input-file", str(file), "--custom-dataset-type", "single_turn", "--request-count", "4"]
    options += [
        "--concurrency",
        "2",
        "--tokenizer",
        str(tokenizer),
        "--ui",
        "none",
        "--artifact-dir",
        str(tmp_path / "out"),
    ]
    # Offline it takes only names in the hub's cache, no folder.
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [program, *options], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = (tmp_path / "out").rglob("profile_export_aiperf.json")
    figures = json.loads(report.read_text(encoding="utf-8"))
    assert figures["request_count"]["avg"] == 4
    assert not figures.get("error_summary")
