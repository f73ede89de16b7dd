"""Rerankers for CUDA, whose GPUs are this machine's processor: one queue, any number of devices, the same scores."""

import asyncio
import gc
import os
import threading
import weakref

import numpy as np
import pytest
from pretend_gpu import pretend_gpu
from tiny_artifacts import copy_artifact

from crossrank.engine import loaded_model as scorer_module
from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.engine.runtime import providers
from crossrank.engine.runtime.cuda.device_pool import DevicePool
from crossrank.engine.runtime.cuda.grid_runner import GridRunner
from crossrank.engine.runtime.cuda.shape_buffers import ShapeBuffers
from crossrank.errors import InferenceError, InvalidInputError, PrecisionError, ProviderError
from crossrank.models.artifact import Artifact


@pytest.fixture(scope="module")
def artifact(tiny_artifact, tmp_path_factory):
    """The tiny artifact, with its fp32 graph for CUDA as well."""
    graphs = [
        graph.model_copy(update={"providers": ("cpu", "cuda")}) if graph.precision == "fp32" else graph
        for graph in Artifact.open(tiny_artifact).manifest.graphs
    ]
    return copy_artifact(tiny_artifact, tmp_path_factory.mktemp("devices") / "tiny", graphs=tuple(graphs))


@pytest.fixture
def on_gpu(monkeypatch, reranker, artifact):
    pretend_gpu(monkeypatch)

    def make(**options):
        return reranker(artifact, **{"provider": "cuda"} | options)

    return make


@pytest.mark.parametrize("devices", [None, [0], [0, 1], [3, 1, 2]])
@pytest.mark.parametrize("max_batch_tokens", [None, 64, 1])
def test_scores_are_those_of_the_processor_on_any_number_of_devices(on_gpu, scored, devices, max_batch_tokens):
    engine = on_gpu(devices=devices, max_batch_tokens=max_batch_tokens)
    np.testing.assert_allclose(engine.score(scored.query, scored.documents), scored.logits, atol=1e-4, rtol=0)
    info = engine.info()
    assert (info.provider, info.devices) == ("cuda", tuple(devices or [0]))
    assert engine.health().ok


def test_many_callers_share_the_devices(on_gpu, scored):
    engine = on_gpu(devices=[0, 1])
    scores_by_index = {}

    def call(index):
        scores_by_index[index] = engine.score(scored.query, scored.documents[index:] + scored.documents[:index])

    callers = [threading.Thread(target=call, args=(index,)) for index in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for index, scores in scores_by_index.items():
        np.testing.assert_allclose(scores, np.roll(scored.logits, -index), atol=1e-4, rtol=0)
    assert len(scores_by_index) == 12


def test_runs_go_to_whichever_device_is_free():
    class Device:
        def __init__(self):
            self.runs, self.gate = 0, threading.Event()

        def run(self, arrays):
            self.runs += 1
            assert self.gate.wait(30)
            return arrays

    slow, quick = Device(), Device()
    quick.gate.set()
    pool = DevicePool([slow, quick], labels=1)
    assert (pool.processors, pool.workers, pool.run_on_all_cores) == (2, 4, None)
    first = threading.Thread(target=pool.run, args=(None,))
    first.start()
    while not slow.runs:
        pass
    for _ in range(5):
        pool.run(None)
    assert (slow.runs, quick.runs) == (1, 5)
    slow.gate.set()
    first.join()


def test_a_device_whose_run_failed_is_free_again(on_gpu, scored, monkeypatch):
    engine = on_gpu(devices=[0, 1])
    real = GridRunner.run

    def fail(self, arrays):
        raise InferenceError("the device is gone")

    with monkeypatch.context() as patch:
        patch.setattr(GridRunner, "run", fail)
        for _ in range(6):
            with pytest.raises(InferenceError, match="the device is gone"):
                engine.score(scored.query, scored.documents)
    assert GridRunner.run is real
    np.testing.assert_allclose(engine.score(scored.query, scored.documents), scored.logits, atol=1e-4, rtol=0)


def test_warming_up_captures_all_shapes_and_info_says_how_many(on_gpu):
    engine = on_gpu(devices=[0, 1], max_batch_tokens=256)
    assert engine.info().cuda_graphs == "0, 0 of 7 shapes captured"
    engine.warmup()
    assert engine.info().cuda_graphs == "7, 7 of 7 shapes captured"
    assert on_gpu(cuda_graphs=False).info().cuda_graphs == "off"


def test_shapes_that_lost_their_buffers_are_counted_with_the_reason(on_gpu, scored, monkeypatch):
    def fail(self, arrays):
        raise RuntimeError("CUDA failure 901: capture invalidated")

    engine = on_gpu(max_batch_tokens=256)
    with monkeypatch.context() as patch:
        patch.setattr(ShapeBuffers, "run", fail)
        np.testing.assert_allclose(engine.score(scored.query, scored.documents), scored.logits, atol=1e-4, rtol=0)
    summary = engine.info().cuda_graphs
    assert summary.startswith("0 of 7 shapes captured; ")
    assert summary.endswith("without, because runs failed: CUDA failure 901: capture invalidated")


def test_the_time_of_a_capture_does_not_change_predictions(on_gpu, scored):
    engine = on_gpu()
    learned = []
    times = engine._loaded.scheduler().times
    times.observe = lambda predicted, seconds, tokens, all_cores=False: learned.append(seconds)
    engine.score(scored.query, scored.documents)
    assert learned == []
    engine.score(scored.query, scored.documents)
    assert len(learned) > 0


def test_on_the_processor_there_are_no_devices(reranker):
    info = reranker().info()
    assert (info.devices, info.cuda_graphs) == ((), None)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
@pytest.mark.parametrize("windows", ["truncate", "windows"])
def test_documents_encoded_while_others_are_scored_get_the_same_scores(on_gpu, scored, at_once, windows):
    engine = on_gpu(long_documents=windows)
    whole = engine.rank(scored.query, scored.documents)
    engine._loaded.documents_at_once = at_once
    parts = engine.rank(scored.query, scored.documents)
    assert [item.index for item in parts] == [item.index for item in whole]
    assert [item.window for item in parts] == [item.window for item in whole]
    assert [item.truncated for item in parts] == [item.truncated for item in whole]
    np.testing.assert_allclose([item.score for item in parts], [item.score for item in whole], atol=1e-5, rtol=0)
    assert (parts.unscored, parts.query_truncated) == (whole.unscored, whole.query_truncated)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_callers_beside_an_event_loop_get_the_same_scores(on_gpu, scored, at_once):
    engine = on_gpu()
    engine._loaded.documents_at_once = at_once

    async def ask():
        shared = AsyncArtifactReranker(engine)
        return await asyncio.gather(*(shared.score(scored.query, scored.documents) for _ in range(3)))

    for scores in asyncio.run(ask()):
        np.testing.assert_allclose(scores, scored.logits, atol=1e-4, rtol=0)


def test_prepared_documents_are_scored_whole(on_gpu, scored):
    engine = on_gpu()
    engine._loaded.documents_at_once = 4
    batches = []
    engine.observe_batches(lambda batch: batches.append(batch.pairs))
    prepared = engine.prepare(scored.documents)
    np.testing.assert_allclose(engine.score(scored.query, prepared), scored.logits, atol=1e-4, rtol=0)
    assert max(batches) > 4


def test_a_large_call_is_scored_while_it_is_encoded(on_gpu, scored, monkeypatch):
    engine = on_gpu()
    engine._loaded.documents_at_once = 8
    events = []
    encode, score = engine._loaded.encoder.encode_documents, GridRunner.run
    monkeypatch.setattr(
        engine._loaded.encoder,
        "encode_documents",
        lambda texts: events.append(("encode", len(texts))) or encode(texts),
        raising=False,
    )
    monkeypatch.setattr(GridRunner, "run", lambda self, arrays, **o: events.append(("run", 0)) or score(self, arrays))
    engine.score(scored.query, scored.documents)
    encoded = [count for what, count in events if what == "encode"]
    assert max(encoded) <= 8
    assert sum(encoded) == len(set(scored.documents))
    first_run = next(index for index, (what, _) in enumerate(events) if what == "run")
    assert ("encode", encoded[-1]) in events[first_run:], "all was encoded before anything ran"


def test_calibration_times_shapes_of_the_grid_and_is_remembered_for_the_device(on_gpu, reranker, artifact):
    fitted = on_gpu(max_batch_tokens=256).calibrate()
    assert on_gpu()._loaded._kind.cost == fitted
    assert reranker(artifact)._loaded._kind.cost != fitted


def test_cuda_is_refused_in_a_forked_child(on_gpu, scored):
    engine = on_gpu()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            engine.score(scored.query, scored.documents[:1])
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    message = os.read(read, 1000).decode()
    os.close(read)
    assert message.startswith(ProviderError.__name__)
    assert "spawn" in message


@pytest.mark.parametrize("scores_first", [False, True])
def test_in_a_forked_child_nothing_of_the_device_is_destroyed(on_gpu, scored, scores_first):
    engine = on_gpu()
    if scores_first:
        engine.score(scored.query, scored.documents)
    (runner,) = engine._loaded._live.runner.runners
    held = weakref.ref(runner._held)
    del runner
    child = os.fork()
    if child == 0:
        engine.close()
        del engine
        gc.collect()
        alive = held()
        os._exit(0 if alive is not None and alive.session is not None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_closing_frees_the_devices(on_gpu, scored):
    engine = on_gpu(devices=[0, 1])
    engine.score(scored.query, scored.documents)
    held = [runner._held for runner in engine._loaded._live.runner.runners]
    engine.close()
    assert [item.session for item in held] == [None, None]


@pytest.mark.parametrize("model_lines", [[], ["Model: \t\t NVIDIA T4"], ["Model: NVIDIA T4", "Model: NVIDIA A10"]])
def test_what_is_measured_on_a_gpu_is_remembered_for_its_model_alone(tmp_path, monkeypatch, model_lines):
    monkeypatch.setattr(providers, "_DRIVER_FOLDER", tmp_path)
    for index, line in enumerate(model_lines):
        (tmp_path / f"0000:0{index}:00.0").mkdir()
        (tmp_path / f"0000:0{index}:00.0" / "information").write_text(f"{line}\nIRQ: 5\n")
    name = providers.cuda_device_name([0])
    assert bool(name) == bool(model_lines)
    assert all(line in name.replace("\\t", "\t") for line in model_lines)
    assert not model_lines or name != providers.cuda_device_name([1])


def test_of_a_gpu_without_a_name_nothing_is_remembered(on_gpu, monkeypatch):
    monkeypatch.setattr(scorer_module, "cuda_device_name", lambda _: "")
    before = on_gpu()._loaded._kind.cost
    assert on_gpu().calibrate() != before
    assert on_gpu()._loaded._kind.cost == before


def test_int8_is_refused(on_gpu):
    with pytest.raises(PrecisionError, match="no int8 graph for provider 'cuda'"):
        on_gpu(precision="int8")


@pytest.mark.parametrize("devices", [[], [0, 0], [-1], ["0"], [True], 1, "01", [1.0]])
def test_invalid_device_numbers_are_refused(reranker, devices):
    with pytest.raises(InvalidInputError, match="devices="):
        reranker(provider="cuda", devices=devices)


@pytest.mark.parametrize("options", [{"devices": [0]}, {"gpu_memory_limit": 2**30}])
def test_options_of_gpus_are_refused_where_the_processor_was_asked_for(reranker, options):
    with pytest.raises(InvalidInputError, match="about GPUs"):
        reranker(provider="cpu", **options)


def test_limit_and_capture_reach_the_runner(monkeypatch, reranker, artifact):
    seen = []

    class Watched(GridRunner):
        def __init__(self, *given, **options):
            seen.append({name: options[name] for name in ("device", "memory_limit", "capture")})
            super().__init__(*given, **options)

    pretend_gpu(monkeypatch, Watched)
    reranker(artifact, provider="cuda", devices=[2, 5], gpu_memory_limit=2**30, cuda_graphs=False)
    assert seen == [{"device": number, "memory_limit": 2**30, "capture": False} for number in (2, 5)]


def test_every_device_is_probed(monkeypatch, reranker):
    asked = []
    monkeypatch.setattr(scorer_module, "choose_provider", lambda *given: asked.append(given) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        reranker(provider="cuda", devices=[2, 5])
    assert asked == [("cuda", (2, 5))]
