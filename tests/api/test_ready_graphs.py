"""Ready ONNX files of a hub: from a name to a ranking without torch, and what may go wrong on the way."""

import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_cases import transformers_logits, write_pairs
from fake_hub import COMMIT, HUB_ID, FakeHub
from resolving_process import ResolvingProcess
from tiny_checkpoints import MAX_LENGTH, make_pairs

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.models.artifact import Artifact, sha256_of
from crossrank.models.catalogue import find_entry

NEWER = "b" * 40
GRAPH = "onnx/model.onnx"
SPECIAL_TOKENS = {f"{word}_token": f"[{word.upper()}]" for word in ("cls", "mask", "pad", "sep", "unk")}
BESIDE = ["README.md", "config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", queries=2, documents=4)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One hub for all tests, because its address is fixed in the processes that use it."""
    hub = FakeHub(tmp_path_factory.mktemp("empty"))
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def processes(server, pairs, tmp_path_factory):
    """A process for each setting, started when it is first needed."""
    started = {}

    def get(**settings):
        key = tuple(sorted(settings.items()))
        if key not in started:
            started[key] = ResolvingProcess(server, pairs, tmp_path_factory.mktemp("home"), **settings)
        return started[key]

    yield get
    for process in started.values():
        process.close()


@pytest.fixture
def repository(tiny_checkpoint, raw_graph, tmp_path):
    """A hub repository: a checkpoint with its ready graph, and much that nobody should fetch for that."""
    folder = Path(shutil.copytree(tiny_checkpoint("bert", layers=1), tmp_path / "repository"))
    (folder / "onnx").mkdir()
    onnx.save(raw_graph("bert", layers=1), folder / GRAPH)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    # transformers 4 writes it beside the tokenizer, transformers 5 does not; repositories of the hub have it.
    (folder / "special_tokens_map.json").write_text(json.dumps(SPECIAL_TOKENS))
    for name in ("pytorch_model.bin", "modeling.py", "onnx/model_O4.onnx", "onnx/config.json"):
        (folder / name).write_bytes(b"not wanted")
    return folder


@pytest.fixture
def hub(server, repository):
    server.serve(repository)
    return server


@pytest.fixture
def resolve(processes, tmp_path):
    """Resolve a model in another process, without torch unless it is asked for, with empty caches at first."""

    def run(model=HUB_ID, *, torch=False, offline=False, **options):
        answer = processes(torch=torch, offline=offline).resolve(tmp_path, model, **options)
        assert torch or not answer["torch"]
        return answer

    return run


def made(answer) -> Artifact:
    assert "folder" in answer, answer
    artifact = Artifact.open(answer["folder"])
    artifact.verify()
    return artifact


def in_hub_cache(tmp_path, name: str) -> Path:
    return next((tmp_path / "hub").rglob(f"snapshots/*/{name}"))


def test_a_name_becomes_scores_of_its_checkpoint_and_only_what_is_needed_is_fetched(
    hub, resolve, repository, tiny_checkpoint
):
    hub.hub_id = "cross-encoder/ms-marco-MiniLM-L6-v2"
    first = resolve("ms-marco-MiniLM-L6-v2")
    artifact = made(first)

    assert Counter(hub.fetched) == Counter([*BESIDE, GRAPH])
    assert hub.tokens == {"Bearer hf_secret"} | ({None} & hub.tokens)
    manifest = artifact.manifest
    source = manifest.source
    assert (source.kind, source.id, source.revision, source.licence) == ("onnx", hub.hub_id, COMMIT, "mit")
    assert source.weights_sha256 == {GRAPH: sha256_of(repository / GRAPH)}
    assert source.files_sha256 == {name: sha256_of(repository / name) for name in BESIDE}
    assert manifest.name == hub.hub_id
    assert manifest.verification.reference.startswith("the ONNX file as it came, by onnxruntime")
    assert any(record.changed for record in manifest.graphs[0].passes)
    asked = make_pairs(20, seed=3)
    with ArtifactReranker(artifact.folder, provider="cpu", activation="identity") as reranker:
        scores = reranker.score_pairs(asked)
    expected = transformers_logits(tiny_checkpoint("bert", layers=1), asked, max_length=MAX_LENGTH)[:, 0]
    np.testing.assert_allclose(scores, expected, atol=1e-4, rtol=0)

    requests = hub.requests
    for options in ({}, {"revision": COMMIT}, {"file": GRAPH}):
        again = resolve("ms-marco-MiniLM-L6-v2", **options)
        assert (again["folder"], again["imports"]) == (first["folder"], 0)
    assert hub.requests == requests, "nothing is asked of the hub"


def test_a_branch_that_moves_stays_the_commit_that_was_fetched_first(hub, resolve, repository, tmp_path):
    assert made(resolve()).manifest.source.revision == COMMIT
    newer = Path(shutil.copytree(repository, tmp_path / "newer"))
    (newer / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    shutil.copy(newer / GRAPH, newer / "model.onnx")
    hub.publish(NEWER, newer)
    hub.fetched.clear()

    later = made(resolve(precision="fp16")).manifest
    assert (later.source.revision, later.source.licence) == (COMMIT, "mit")
    assert hub.fetched == [], "all files of that commit were there"
    assert "has no ONNX file 'model.onnx'" in resolve(file="model.onnx")["message"]

    updated = made(resolve(update=True)).manifest
    assert (updated.source.revision, updated.source.licence) == (NEWER, "apache-2.0")
    assert made(resolve()).manifest.source.revision == NEWER


def test_a_download_that_breaks_off_is_continued(hub, resolve, repository):
    size = (repository / GRAPH).stat().st_size
    hub.cuts[GRAPH] = [size // 2]
    answers = [resolve(), resolve()]  # the first one fails where huggingface-hub does not try again by itself
    assert made(answers[-1]).manifest.source.weights_sha256 == {GRAPH: sha256_of(repository / GRAPH)}
    (asked,) = [asked for asked in hub.ranges if asked]
    assert size // 2 - 1024 < int(asked.removeprefix("bytes=").removesuffix("-")) <= size // 2


def test_a_download_that_always_breaks_off_leaves_nothing_that_is_taken_for_the_model(hub, resolve, tmp_path):
    hub.cuts[GRAPH] = [1000] + [0] * 20
    answer = resolve()
    assert (answer["error"], answer["imports"]) == ("ModelNotFoundError", 0)
    assert f"cannot fetch '{HUB_ID}' from the hub" in answer["message"]
    assert not list((tmp_path / "exports").rglob("manifest.json"))
    offline = resolve(offline=True)
    assert offline["error"] == "ModelNotFoundError"
    assert f"the cache of hub repository '{HUB_ID}' has no ready ONNX file" in offline["message"]

    hub.cuts.clear()
    assert made(resolve()).manifest.source.revision == COMMIT


@pytest.mark.parametrize("name", [GRAPH, "tokenizer.json"])
def test_bytes_that_the_hub_did_not_mean_are_refused(hub, resolve, repository, name):
    hub.damaged.add(name)
    answer = resolve()
    assert answer["error"] == "ModelNotFoundError"
    stated = sha256_of(repository / name) if name == GRAPH else "git's id"
    for part in (f"{name} of '{HUB_ID}' at commit {COMMIT}", stated, "also after it was fetched again"):
        assert part in answer["message"]
    assert (Counter(hub.fetched)[name], answer["imports"]) == (2, 0)

    hub.damaged.clear()
    assert made(resolve()).manifest.source.revision == COMMIT
    assert Counter(hub.fetched)[name] == 3


def test_a_file_that_was_altered_in_the_cache_is_fetched_again_or_refused(hub, resolve, repository, tmp_path):
    made(resolve())
    cached = in_hub_cache(tmp_path, GRAPH)
    good = cached.read_bytes()
    assert cached.is_symlink()
    cached.resolve().write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    hub.fetched.clear()

    refused = resolve(precision="fp16", offline=True)
    assert refused["error"] == "ModelNotFoundError"
    assert f"it had {sha256_of(repository / GRAPH)} when it was first fetched" in refused["message"]
    assert "could not be fetched again" in refused["message"]

    made(resolve(precision="fp16"))
    assert hub.fetched == [GRAPH]
    assert in_hub_cache(tmp_path, GRAPH).read_bytes() == good


def test_offline_the_caches_are_enough(hub, resolve, tmp_path):
    first = resolve()
    requests = hub.requests
    again = resolve(offline=True)
    assert (again["folder"], again["imports"]) == (first["folder"], 0)
    shutil.rmtree(tmp_path / "exports")
    assert made(resolve(offline=True)).manifest.source.revision == COMMIT
    assert hub.requests == requests

    shutil.rmtree(tmp_path / "exports")
    cached = in_hub_cache(tmp_path, GRAPH).resolve()
    cached.write_bytes(cached.read_bytes() + b"\0")
    assert "the hub says" in resolve(offline=True)["message"], "links of the hub's cache are named by their digests"
    shutil.rmtree(tmp_path / "hub")
    answer = resolve(offline=True)
    assert answer["error"] == "ModelNotFoundError"
    assert "hf download" in answer["message"]


def test_weights_beside_the_file_are_fetched_with_it(hub, resolve, repository, raw_graph):
    (repository / GRAPH).unlink()
    model = raw_graph("bert", layers=1)
    onnx.save(model, repository / GRAPH, save_as_external_data=True, location="model.onnx_data", size_threshold=1024)
    artifact = made(resolve())
    assert Counter(hub.fetched) == Counter([*BESIDE, GRAPH, f"{GRAPH}_data"])
    assert set(artifact.manifest.source.weights_sha256) == {GRAPH, f"{GRAPH}_data"}


def test_weights_outside_the_files_folder_are_refused_before_they_are_fetched(hub, resolve, repository, raw_graph):
    model = raw_graph("bert", layers=1)
    onnx.save(model, repository / GRAPH, save_as_external_data=True, location="model.onnx_data", size_threshold=1024)
    model = onnx.load(repository / GRAPH, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../../secret" if entry.key == "location" else entry.value
    (repository / GRAPH).write_bytes(model.SerializeToString())
    answer = resolve()
    assert answer["error"] == "UnsupportedCheckpointError"
    assert "'../../secret', outside its folder" in answer["message"]
    assert f"{GRAPH}_data" not in hub.fetched


def test_a_quantized_file_is_taken_only_where_it_is_chosen_and_then_as_it_is(hub, resolve, repository, tiny_graphs):
    shutil.copy(tiny_graphs / "int8.onnx", repository / "onnx" / "model_quantized.onnx")
    chosen = made(resolve(file="onnx/model_quantized.onnx", precision="auto")).manifest
    assert [(graph.precision, graph.passes) for graph in chosen.graphs] == [("int8", ())]
    assert GRAPH not in hub.fetched
    other = resolve(file="onnx/model_quantized.onnx", precision="fp32")
    assert "stored in int8, from which only int8 can be made" in other["message"]

    shutil.copy(tiny_graphs / "int8.onnx", repository / GRAPH)
    unasked = resolve(precision="int8")
    assert unasked["error"] == "UnsupportedCheckpointError"
    assert "stored in int8, and only a float32 file is taken unasked" in unasked["message"]
    assert f"choose it: file='{GRAPH}'" in unasked["message"]


def test_where_there_is_no_ready_file_the_message_says_what_to_install(hub, resolve, repository):
    missing = resolve(file="onnx/other.onnx")
    assert missing["error"] == "ModelNotFoundError"
    assert f"has no ONNX file 'onnx/other.onnx'; it has {GRAPH}, onnx/model_O4.onnx" in missing["message"]

    (repository / GRAPH).unlink()
    hub.hub_id = "BAAI/bge-reranker-v2-m3"
    answer = resolve("bge-reranker-v2-m3")
    assert answer["error"] == "MissingDependencyError"
    community = find_entry("bge-reranker-v2-m3").onnx
    for part in (
        "has no ready ONNX file (onnx/model.onnx or model.onnx; it has onnx/model_O4.onnx)",
        "exporting a checkpoint needs torch; install it with: pip install 'crossrank[export]'",
        f"{community.repository}, which nobody has looked up: name that as the model to take it",
    ):
        assert part in answer["message"]
    assert set(hub.fetched) == {"config.json"}


def test_no_tokenizer_is_found_out_before_the_graph_is_fetched(hub, resolve, repository):
    (repository / "tokenizer.json").unlink()
    answer = resolve()
    assert answer["error"] == "UnsupportedCheckpointError"
    assert "has no tokenizer.json" in answer["message"]
    assert hub.fetched == ["config.json"]


def test_processes_that_need_the_same_model_at_once_fetch_and_import_it_once(hub, pairs, tmp_path):
    several = [ResolvingProcess(hub, pairs, tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda process: process.resolve(tmp_path, HUB_ID), several))
    for process in several:
        process.close()
    assert len({made(answer).folder for answer in answers}) == 1
    assert sorted(answer["imports"] for answer in answers) == [0, 1]
    assert Counter(hub.fetched) == Counter([*BESIDE, GRAPH])


def test_with_torch_the_checkpoint_is_taken_unless_a_file_is_chosen_or_cached(hub, resolve, repository):
    chosen = resolve(torch=True, file=GRAPH)
    assert made(chosen).manifest.source.kind == "onnx"
    assert "model.safetensors" not in hub.fetched
    again = resolve(torch=True)
    assert (again["folder"], again["imports"]) == (chosen["folder"], 0), "what is cached is taken"

    (repository / "model.safetensors").write_bytes(b"damaged")
    hub.publish(NEWER, repository)
    answer = resolve(torch=True, update=True)
    assert answer["error"] == "UnsupportedCheckpointError", "the checkpoint was tried"
    assert "model.safetensors" in hub.fetched


def test_a_copy_of_a_repository_is_a_model_without_torch(hub, resolve, repository):
    artifact = made(resolve(repository))
    assert (artifact.manifest.source.kind, artifact.manifest.source.id) == ("onnx", "model.onnx")
    again = resolve(repository, file=GRAPH)
    assert (made(again).folder, again["imports"]) == (artifact.folder, 0)
    (repository / "config.json").write_text((repository / "config.json").read_text() + "\n")
    assert resolve(repository)["imports"] == 1
    (repository / GRAPH).unlink()
    answer = resolve(repository)
    assert answer["error"] == "MissingDependencyError"
    assert "crossrank[export]" in answer["message"]
    assert hub.requests == 0


@pytest.mark.parametrize("model", ["default", "artifact"])
def test_an_artifact_is_not_made_of_a_file(resolve, tiny_artifact, model):
    answer = resolve(tiny_artifact if model == "artifact" else model, file=GRAPH)
    assert answer["error"] == "InvalidInputError"
    assert f"file='{GRAPH}'" in answer["message"]
