"""What operators and tools read: Prometheus, the summary for the page, OpenAPI."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families
from served_app import DOCUMENTS, QUERY, client_of
from stub_reranker import StubReranker, stub_opener

from crossrank.errors import InferenceError, Overloaded
from crossrank.server.metrics import Metrics

BODY = {"query": QUERY, "documents": DOCUMENTS}
NAMED_METRIC = re.compile("`((?:te|crossrank)_[a-z_]+)`")
ERRORS = {"failing": InferenceError("the graph failed"), "wrong": RuntimeError("a mistake")}


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_what_was_served(tiny_artifact):
    async def main():
        async with client_of(tiny_artifact) as client:
            for _ in range(3):
                answer = await client.post("/v2/rerank", json=BODY)
            await client.post("/score", json={"text_1": QUERY, "text_2": DOCUMENTS})
            await client.post("/v2/rerank", json={"query": QUERY, "documents": ["a", 1]})
            await client.post("/v2/rerank", json={**BODY, "deadline_ms": 0})
            metrics = await client.get("/metrics")
            assert metrics.headers["content-type"].startswith("text/plain")
            read = samples(metrics.text)
            assert read["te_request_count", "rerank"] == 5
            assert read["te_request_count", "score"] == 1
            assert read["te_request_success", "rerank"] == 4
            assert read["te_request_failure", "invalid_input"] == 1
            assert read["te_request_duration_count",] == 6
            assert read["te_queue_size",] == 0
            stats = client.service.models.rerankers[0].stats()
            assert read["te_batch_next_size_count",] == read["te_request_inference_duration_count",] == stats.runs
            assert read["te_batch_next_size_sum",] == stats.pairs
            assert read["te_request_queue_duration_count",] == stats.wait.count
            assert read["te_request_tokenization_duration_count",] == stats.encode.count > 0
            assert read["crossrank_documents_total",] == 4 * len(DOCUMENTS)
            assert read["crossrank_tokens_total",] == 4 * answer.json()["usage"]["total_tokens"]
            assert read["crossrank_incomplete_answers_total", "deadline"] == 1
            assert read["crossrank_responses_total", "422"] == 1
            summary = (await client.get("/stats")).json()
            assert (summary["requests"], summary["answered"], summary["refused_or_failed"]) == (6, 5, 1)
            assert summary["documents"] == 4 * len(DOCUMENTS)
            assert 0 < summary["latency_seconds"]["p50"] <= summary["latency_seconds"]["p99"]
            assert [model["name"] for model in summary["served"]] == ["tiny"]

    asyncio.run(main())


def test_a_worker_that_died_has_no_requests_in_progress_and_its_counts_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    worker = (
        "import sys, time\n"
        "from crossrank.server.metrics import Metrics\n"
        "metrics = Metrics()\n"
        "metrics.in_progress.inc()\n"
        "metrics.requests.labels('rerank').inc()\n"
        "print('counted', flush=True)\n"
        "sys.stdin.read()\n"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for process in workers:
            process.stdout.readline()
        metrics = Metrics()
        assert samples(metrics.exposition()[0].decode())["crossrank_requests_in_progress",] == 2
        workers[0].kill()
        workers[0].wait()
        read = samples(metrics.exposition()[0].decode())
        assert read["crossrank_requests_in_progress",] == metrics.summary()["in_progress"] == 1
        assert read["te_request_count", "rerank"] == 2
    finally:
        for process in workers:
            process.kill()
            process.communicate()


def test_a_stream_is_counted_by_its_end():
    def fault(query):
        if query != QUERY:
            raise ERRORS[query]

    async def main():
        async with client_of("stub", opener=stub_opener(StubReranker(fault=fault))) as client:
            for query in (QUERY, "failing", QUERY, "wrong"):
                with suppress(RuntimeError):
                    await client.post("/v2/rerank", json={**BODY, "query": query, "stream": True})
            read = samples((await client.get("/metrics")).text)
            assert read["te_request_count", "rerank"] == 4
            assert read["te_request_success", "rerank"] == 2
            assert read["te_request_failure", "inference_failed"] == 1
            assert read["te_request_failure", "internal_error"] == 1
            assert read["crossrank_hung_up_total",] == 0

    asyncio.run(main())


def test_every_number_that_the_documentation_names_is_there_under_that_name(tiny_artifact):
    pages = ("http.md", "guides/operate-and-observe.md")
    docs = Path(__file__).parents[2] / "docs"
    named = {name for page in pages for name in NAMED_METRIC.findall((docs / page).read_text(encoding="utf-8"))}
    assert len(named) > 10

    async def main():
        async with client_of(tiny_artifact) as client:
            await client.post("/v2/rerank", json={**BODY, "deadline_ms": 0})
            await client.post("/v2/rerank", json={})
            exposed = {name for name, *_ in samples((await client.get("/metrics")).text)}
        whole = {re.sub("_(bucket|sum|count)$", "", name) for name in exposed if not name.endswith("_request_count")}
        assert named <= exposed | whole, named - exposed - whole

    asyncio.run(main())


def test_refusals_and_failures_are_counted_by_their_kind():
    def fault(query):
        if query == "bug":
            raise RuntimeError("nobody thought of this")
        raise Overloaded("busy", retry_after=1.0)

    async def main():
        async with client_of("stub", opener=stub_opener(StubReranker(fault=fault))) as client:
            assert (await client.get("/stats")).json()["latency_seconds"]["p50"] is None
            for _ in range(4):
                await client.post("/v2/rerank", json=BODY)
            failed = await client.post("/v2/rerank", json={**BODY, "query": "bug"})
            assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
            assert "nobody" not in failed.text
            read = samples((await client.get("/metrics")).text)
            assert (read["te_request_failure", "overloaded"], read["te_request_failure", "internal_error"]) == (4, 1)
            assert read["crossrank_requests_in_progress",] == 0

    asyncio.run(main())


def test_the_openapi_document_is_valid_and_its_examples_are_accepted(tiny_artifact, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("key\n", encoding="utf-8")

    async def main():
        async with client_of(tiny_artifact, keys_file=str(keys)) as client:
            document = (await client.get("/openapi.json")).json()
            validate(document)
            routes = {route.path for route in _routes(client)}
            assert set(document["paths"]) == routes - {"/", "/openapi.json"}
            headers = {"Authorization": "Bearer key"}
            tried = 0
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    if method == "get":
                        assert (await client.get(path)).status_code == 200
                        continue
                    assert operation["security"] == [{"key": []}]
                    schema = operation["requestBody"]["content"]["application/json"]["schema"]
                    for reference in schema.get("anyOf", [schema]):
                        name = reference["$ref"].rpartition("/")[2]
                        for example in document["components"]["schemas"][name]["examples"]:
                            answer = await client.post(path, json=example, headers=headers)
                            assert answer.status_code == 200, (path, answer.text)
                            tried += 1
            assert tried == 6

    asyncio.run(main())


def _routes(client):
    return client._transport.app._app.routes
