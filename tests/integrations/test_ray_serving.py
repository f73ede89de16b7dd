"""The service as a deployment on a local Ray Serve, over its proxy's socket and through handles."""

from __future__ import annotations

import concurrent.futures
import inspect
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from local_ray import local_ray

from crossrank import InvalidInputError, Overloaded, Reranker
from crossrank.server.settings import ServerSettings

pytest.importorskip("ray", reason="Ray is not installed: 'make ray' has an environment with it")
serve = pytest.importorskip("ray.serve", reason="Ray Serve is not installed: 'make ray' has an environment with it")
httpx = pytest.importorskip("httpx")

from crossrank.integrations.ray import application, deployment  # noqa: E402

QUERY = "what do bees make"
DOCUMENTS = [f"{text} {number}" for number in range(8) for text in ("bees make honey", "cars need petrol", "")]
LARGE = {"query": QUERY, "documents": [f"{text} {number}" for number in range(250) for text in DOCUMENTS]}
MODELS = {"small": {"source": "default-small"}}
CONFIG_FILE = Path(__file__).parents[2] / "deploy" / "ray-serve.yaml"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def url():
    with local_ray():
        port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield f"http://127.0.0.1:{port}"
        serve.shutdown()


def run(settings, **options):
    """One replica, under a name of its own so that tests do not wait for each other's to end."""
    fixed = {"num_replicas": 1, "autoscaling_config": None, "max_constructor_retry_count": 1, **options}
    return serve.run(deployment().options(**fixed).bind(ServerSettings.model_validate(settings)))


@pytest.fixture(scope="module")
def handle(url):
    return run({"models": MODELS})


@pytest.fixture(scope="module")
def logits():
    with Reranker("default-small", activation="identity", provider="cpu", threads=1) as reranker:
        return reranker.score(QUERY, DOCUMENTS)


def test_concurrent_requests_get_their_own_scores_and_a_bad_one_hurts_no_other(url, handle, logits):
    def ask(number):
        documents = DOCUMENTS[number : number + 9] if number != 5 else [*DOCUMENTS, 7]
        body = {"query": QUERY, "documents": documents, "raw_scores": True}
        return httpx.post(f"{url}/v2/rerank", json=body, timeout=60)

    with concurrent.futures.ThreadPoolExecutor(12) as callers:
        answers = list(callers.map(ask, range(12)))
    assert answers[5].status_code == 422
    assert answers[5].json()["error"]["param"] == f"documents[{len(DOCUMENTS)}]"
    for number, answer in enumerate(answers):
        if number != 5:
            assert answer.status_code == 200
            scores = {item["index"]: item["relevance_score"] for item in answer.json()["results"]}
            wanted = logits[number : number + 9]
            assert np.array([scores[index] for index in range(len(wanted))], np.float32).tobytes() == wanted.tobytes()


def test_other_apis_and_probes_are_those_of_the_service(url, handle):
    assert httpx.get(f"{url}/ready").json() == {"status": "ready"}
    assert httpx.get(f"{url}/health").status_code == 200
    tei = httpx.post(f"{url}/rerank", json={"query": QUERY, "texts": DOCUMENTS[:3]})
    assert [set(item) for item in tei.json()] == [{"index", "score"}] * 3
    assert httpx.get(f"{url}/nowhere").status_code == 404


def test_a_handle_ranks_as_a_reranker(handle, logits):
    ranking = handle.rank.remote(QUERY, DOCUMENTS, 5).result(timeout_s=60)
    order = np.argsort(-logits, kind="stable")[:5]
    assert [item.index for item in ranking] == order.tolist()
    assert np.array([item.score for item in ranking], np.float32).tobytes() == logits[order].tobytes()
    with pytest.raises(InvalidInputError, match="model 'large' is not served here; served: small"):
        handle.rank.remote(QUERY, DOCUMENTS, model="large").result(timeout_s=60)
    with pytest.raises(InvalidInputError, match=r"documents\[1\]"):
        handle.rank.remote(QUERY, ["text", None]).result(timeout_s=60)


def test_a_replica_takes_the_threads_of_its_cpus(url, handle):
    served = httpx.get(f"{url}/stats").json()["served"]
    assert [model["tokenization_workers"] for model in served] == [1]


def wait_for_a_request(url):
    while httpx.get(f"{url}/stats").json()["in_progress"] == 0:
        time.sleep(0.05)


def test_an_accepted_request_is_answered_before_its_replica_ends(url, handle):
    with concurrent.futures.ThreadPoolExecutor(1) as caller:
        asked = caller.submit(httpx.post, f"{url}/v2/rerank", json=LARGE, timeout=120)
        wait_for_a_request(url)
        run({"models": MODELS, "max_documents": 9000})  # other settings: the old replica has to end
        assert len(asked.result().json()["results"]) == len(LARGE["documents"])


def test_what_would_wait_too_long_is_refused(url):
    handle = run({"models": {"small": {"source": "default-small", "max_queue_tokens": 1000}}})
    with concurrent.futures.ThreadPoolExecutor(1) as caller:
        asked = caller.submit(httpx.post, f"{url}/v2/rerank", json=LARGE, timeout=120)
        wait_for_a_request(url)
        answer = httpx.post(f"{url}/v2/rerank", json={"query": QUERY, "documents": DOCUMENTS}, timeout=60)
        with pytest.raises(Overloaded) as refused:
            handle.rank.remote(QUERY, DOCUMENTS).result(timeout_s=60)
        assert asked.result().status_code == 200
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert refused.value.retry_after > 0


def test_a_model_that_cannot_be_loaded_is_said_when_it_is_deployed(url, tmp_path):
    with pytest.raises(RuntimeError, match="failed"):
        run({"models": {"none": {"source": str(tmp_path)}}})
    deployed = serve.status().applications["default"].deployments["crossrank"]
    assert f"folder {tmp_path} is neither an artifact" in deployed.message


def test_settings_of_sockets_and_processes_are_refused():
    with pytest.raises(InvalidInputError, match="port, workers: no settings of a replica"):
        application(ServerSettings(port=9000, workers=2))


def test_a_config_file_gives_the_application_its_settings():
    from ray.serve.schema import ServeDeploySchema

    # Serve makes the arguments of the class that the annotation is.
    (parameter,) = inspect.signature(application).parameters.values()
    assert parameter.annotation is ServerSettings
    (app,) = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG_FILE.read_text(encoding="utf-8"))).applications
    assert app.import_path == f"{application.__module__.rpartition('.')[0]}:{application.__name__}"
    application(ServerSettings.model_validate(app.args))
    assert [options.name for options in app.deployments] == [deployment().name]
