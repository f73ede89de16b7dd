"""The runner of GPUs on the processor: scores, buffers, graph ids, one thread, and what becomes of failures.

What this cannot show is the capture itself, and that a replayed graph reads the buffers; see docs/cuda.md.
"""

import gc
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from grid_cases import GRID, batch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.engine.plan.shape_grid import Shape
from crossrank.engine.runtime.cuda import grid_runner, shape_buffers
from crossrank.engine.runtime.cuda.grid_runner import GridRunner
from crossrank.engine.runtime.cuda.options import FIRST_GRAPH_ID, GRAPH_ID, NOT_CAPTURED, cuda_provider_options
from crossrank.errors import ArtifactError, ClosedError, InferenceError


@pytest.fixture
def runner(parts):
    path, manifest, _ = parts

    def make(**options):
        return GridRunner(path, manifest, grid=GRID, provider="cpu", **options)

    return make


@pytest.fixture(scope="module")
def shared_runner(parts):
    """One runner for all examples, as in a process."""
    path, manifest, _ = parts
    return GridRunner(path, manifest, grid=GRID, provider="cpu")


@settings(max_examples=60)
@given(rows=st.integers(1, 20), length=st.integers(3, 50), seed=st.integers(0, 1000))
def test_each_row_gets_its_score_whatever_ran_in_the_buffers_before(parts, shared_runner, rows, length, seed):
    arrays = batch(rows, length, seed)
    np.testing.assert_allclose(shared_runner.run(arrays).outputs, parts[2].run(arrays), atol=1e-5, rtol=0)
    assert np.array_equal(shared_runner.run(arrays).outputs, shared_runner.run(arrays).outputs)


def test_buffers_stay_where_they_are(runner):
    made = runner()
    made.run(batch(5, 12))
    (buffers,) = made._held.buffers.values()
    before = buffers.addresses
    for rows in (8, 5, 6):
        made.run(batch(rows, 16, seed=rows))
    assert list(made._held.buffers.values()) == [buffers]
    assert buffers.addresses == before
    assert len(set(before.values())) == len(before)


def test_a_short_run_after_a_full_one_leaves_no_row_of_it(runner):
    made = runner()
    made.run(batch(8, 16, seed=1))
    made.run(batch(5, 9, seed=2))
    (buffers,) = made._held.buffers.values()
    ids, mask = buffers._host["input_ids"], buffers._host["attention_mask"]
    assert ids[:5, 9:].any() == ids[5:].any() == False  # noqa: E712  pad_token_id is 0
    assert mask[5:].tolist() == [[1] + [0] * 15] * 3


def test_outputs_of_a_run_are_not_changed_by_the_next(runner):
    made = runner()
    first = made.run(batch(3, 10, seed=1)).outputs
    unchanged = first.copy()
    made.run(batch(4, 10, seed=2))
    assert np.array_equal(first, unchanged)


@pytest.fixture
def run_ids(monkeypatch):
    """Graph id and thread of every run."""
    seen = []
    real = shape_buffers.run_options

    def options(graph_id):
        made = real(graph_id)
        seen.append((int(made.get_run_config_entry(GRAPH_ID)), threading.current_thread().name))
        return made

    monkeypatch.setattr(shape_buffers, "run_options", options)
    monkeypatch.setattr(grid_runner, "run_options", options)
    return seen


def test_every_shape_has_a_different_id_and_none_has_the_id_that_unset_means(runner, run_ids):
    made = runner()
    for rows, length in ((1, 8), (2, 8), (1, 20), (2, 8), (3, 30)):
        made.run(batch(rows, length))
    assert made.graph_ids == {Shape(1, 8): 1, Shape(2, 8): 2, Shape(1, 32): 3, Shape(4, 32): 4}
    assert FIRST_GRAPH_ID > 0
    assert [graph_id for graph_id, _ in run_ids] == [1, 2, 3, 4]


def test_shapes_outside_the_grid_are_not_captured(runner, run_ids):
    made = runner()
    made.run(batch(2, 40))
    made.run(batch(9, 32))
    assert made.graph_ids == {}
    assert [graph_id for graph_id, _ in run_ids] == [NOT_CAPTURED] * 2


def test_without_capture_no_run_is_captured(runner, run_ids):
    made = runner(capture=False)
    made.run(batch(2, 8))
    made.run(batch(2, 40))
    assert made.graph_ids == {}
    assert {graph_id for graph_id, _ in run_ids} == {NOT_CAPTURED}


def test_no_more_shapes_get_buffers_than_asked_for_and_the_rest_score_as_well(parts, runner, run_ids):
    made = runner(most_shapes=2)
    for rows in (1, 2, 4, 8):
        arrays = batch(rows, 16, seed=rows)
        np.testing.assert_allclose(made.run(arrays).outputs, parts[2].run(arrays), atol=1e-5, rtol=0)
    assert list(made.graph_ids) == [Shape(1, 16), Shape(2, 16)]
    assert [graph_id for graph_id, _ in run_ids] == [1, 2, NOT_CAPTURED, NOT_CAPTURED]


def test_all_shapes_are_captured_on_request_the_largest_first(runner):
    made = runner()
    made.load_all()
    assert list(made.graph_ids) == GRID.shapes()
    fewer = runner(most_shapes=3)
    fewer.load_all()
    assert list(fewer.graph_ids) == GRID.shapes()[-3:], "small runs gain most from capture"


def test_everything_that_touches_the_session_happens_in_one_thread(parts, monkeypatch):
    path, manifest, _ = parts
    threads = set()
    for module, name in ((grid_runner, "open_session"), (grid_runner.ShapeBuffers, "run")):
        real = getattr(module, name)

        def watched(*given, real=real, **options):
            threads.add(threading.get_ident())
            return real(*given, **options)

        monkeypatch.setattr(module, name, watched)
    made = GridRunner(path, manifest, grid=GRID, provider="cpu")
    callers = [threading.Thread(target=made.run, args=(batch(3, 10, seed=seed),)) for seed in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_shape_whose_run_fails_is_run_without_capture_from_then_on(parts, runner, run_ids, monkeypatch, caplog):
    made = runner()
    arrays = batch(2, 8)

    def fail(self, arrays):
        raise RuntimeError("CUDA error: out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(shape_buffers.ShapeBuffers, "run", fail)
        np.testing.assert_allclose(made.run(arrays).outputs, parts[2].run(arrays), atol=1e-5, rtol=0)
        made.run(batch(1, 8))
    assert made.graph_ids == {}
    assert made.failed == dict.fromkeys([Shape(2, 8), Shape(1, 8)], "CUDA error: out of memory")
    (warning,) = caplog.messages
    assert "2 pairs x 8 tokens" in warning
    assert "out of memory" in warning
    made.run(arrays)
    assert [graph_id for graph_id, _ in run_ids][-1] == NOT_CAPTURED
    made.run(batch(4, 8))
    assert made.graph_ids == {Shape(4, 8): 3}, "an id is never given twice"


def test_a_run_that_fails_either_way_is_an_error_and_the_next_one_works(parts, runner, monkeypatch):
    made = runner()
    made.run(batch(1, 8))
    bad = batch(2, 8)
    bad.input_ids[1, 0] = 10**6
    with pytest.raises(InferenceError, match="onnxruntime failed on 2 pairs x 8 tokens"):
        made.run(bad)
    assert made.failed == {}, "one bad batch must not cost its shape the graph"
    good = batch(2, 8, seed=3)
    np.testing.assert_allclose(made.run(good).outputs, parts[2].run(good), atol=1e-5, rtol=0)
    assert made.graph_ids == {Shape(1, 8): 1, Shape(2, 8): 3}


def test_where_onnxruntime_refuses_to_capture_a_graph_it_runs_without_and_says_why(parts, monkeypatch):
    path, manifest, plain = parts
    real, asked = grid_runner.open_session, []

    def refuse(path, *, provider, provider_options, **options):
        asked.append(provider_options["enable_cuda_graph"])
        if provider_options["enable_cuda_graph"] == "1":
            raise ArtifactError("This session cannot use the graph capture feature: node If_12 is on the CPU")
        return real(path, provider="cpu", **options)

    monkeypatch.setattr(grid_runner, "open_session", refuse)
    monkeypatch.setattr(grid_runner, "pinned_memory", lambda *_: None)
    monkeypatch.setattr(grid_runner, "ShapeBuffers", buffers_on_cpu)
    made = GridRunner(path, manifest, grid=GRID, provider="cuda", device=3)
    assert asked == ["1", "0"]
    assert (made.capture, made.graph_ids) == (False, {})
    assert "If_12" in made.not_captured_because
    arrays = batch(3, 10)
    np.testing.assert_allclose(made.run(arrays).outputs, plain.run(arrays), atol=1e-5, rtol=0)


def buffers_on_cpu(*given, device, **options):
    assert device == ("cuda", 3)
    return shape_buffers.ShapeBuffers(*given, device=("cpu", 0), **options)


def test_a_graph_that_cannot_be_loaded_is_an_error(parts):
    path, manifest, _ = parts
    with pytest.raises(ArtifactError):
        GridRunner(path.with_name("manifest.json"), manifest, grid=GRID, provider="cpu")


def test_the_options_are_those_of_the_device():
    assert cuda_provider_options(2, memory_limit=None, capture=True) == {
        "device_id": "2",
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1",
    }
    limited = cuda_provider_options(0, memory_limit=2**30, capture=False)
    assert (limited["gpu_mem_limit"], limited["enable_cuda_graph"]) == ("1073741824", "0")


def test_runs_go_through_fixed_buffers_in_the_order_a_device_needs(parts, monkeypatch):
    """A session that records what is called."""
    events = []

    class Binding:
        def bind_ortvalue_input(self, name, value):
            events.append(f"bind {name}")

        def bind_ortvalue_output(self, name, value):
            events.append(f"bind {name}")
            self.output = value

        def synchronize_inputs(self):
            events.append("inputs copied")

        def synchronize_outputs(self):
            events.append("outputs copied")

    class Session:
        def io_binding(self):
            return Binding()

        def run_with_iobinding(self, binding, options):
            events.append(f"run {options.get_run_config_entry(GRAPH_ID)}")
            binding.output.update_inplace(np.arange(4, dtype=np.float32)[:, None])

    interface = shape_buffers.GraphInterface({"input_ids": np.int64}, "logits", labels=1, pad_token_id=0)
    buffers = shape_buffers.ShapeBuffers(Session(), Shape(4, 8), interface, device=("cpu", 0), graph_id=7)
    assert buffers.run(batch(3, 6)).tolist() == [[0], [1], [2]]
    buffers.run(batch(4, 8))
    once = ["inputs copied", "run 7", "outputs copied"]
    assert events == ["bind input_ids", "bind logits", *once, *once]


def test_a_runs_time_is_typical_unless_it_is_a_shapes_first_or_failed(runner, monkeypatch):
    made = runner()
    typical = []
    for rows, length in ((2, 8), (2, 8), (4, 8), (2, 40)):
        typical.append(made.run(batch(rows, length)).typical)
    assert typical == [False, True, False, True]

    def fail(self, arrays):
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(shape_buffers.ShapeBuffers, "run", fail)
    assert not made.run(batch(2, 8)).typical
    assert made.run(batch(2, 8)).typical, "from now on it runs like this"


def test_buffers_that_cannot_be_made_cost_speed_and_no_score(parts, runner, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA failure 2: out of memory")

    monkeypatch.setattr(grid_runner, "ShapeBuffers", fail)
    made = runner()
    arrays = batch(3, 10)
    np.testing.assert_allclose(made.run(arrays).outputs, parts[2].run(arrays), atol=1e-5, rtol=0)
    assert "out of memory" in made.failed[Shape(4, 16)]


def test_closing_frees_everything_in_the_runners_thread(runner, monkeypatch):
    threads, clear = [], grid_runner._Held.clear
    monkeypatch.setattr(
        grid_runner._Held, "clear", lambda held: threads.append(threading.current_thread().name) or clear(held)
    )
    made = runner()
    made.run(batch(2, 8))
    held = made._held
    made.close()
    made.close()
    assert (held.session, held.buffers) == (None, {})
    assert len(threads) == 1
    assert threads[0].startswith("crossrank-device-0")
    with pytest.raises(ClosedError):
        made.run(batch(2, 8))


def test_a_runner_that_is_dropped_is_freed_in_its_thread_too(runner):
    made = runner()
    made.run(batch(2, 8))
    held, thread = made._held, made._thread
    del made
    gc.collect()
    thread.join(30)
    assert (held.session, held.buffers) == (None, {})


@pytest.fixture
def device():
    """Stands for a GPU with host and device memory: a value exists where it was copied to."""

    class Value:
        def __init__(self, *_, **options):
            self.held, self.pinned = None, "memory_info" in options

        def update_inplace(self, data):
            self.held = data.held if isinstance(data, Value) else np.array(data)

        def numpy(self):
            return self.held

    return Value


@pytest.mark.parametrize("fault", [None, "raises", "stale"])
def test_pinned_memory_is_tried_as_inputs_are_copied(monkeypatch, device, fault):
    class Faulty(device):
        def update_inplace(self, data):
            if isinstance(data, device) and fault == "raises":
                raise RuntimeError("copies between these devices are not supported")
            if not (isinstance(data, device) and fault == "stale" and self.held is not None):
                super().update_inplace(data)

    runtime = SimpleNamespace(
        OrtDeviceMemoryType=SimpleNamespace(HOST_ACCESSIBLE=5),
        OrtValue=SimpleNamespace(ortvalue_from_shape_and_type=Faulty),
    )
    monkeypatch.setattr(shape_buffers, "load_onnxruntime", lambda: runtime)
    session = SimpleNamespace(get_input_epdevices=lambda: [SimpleNamespace(memory_info=lambda kind: f"info {kind}")])
    assert shape_buffers.pinned_memory(session, ("cuda", 0)) == (None if fault else "info 5")


@pytest.mark.parametrize(
    "devices",
    [
        [],
        [SimpleNamespace(memory_info=lambda _: None)],
        [SimpleNamespace()],
        [SimpleNamespace(memory_info=lambda _: 5)],
    ],
)
def test_pinned_memory_that_is_not_offered_or_does_not_work_is_not_used(devices):
    assert shape_buffers.pinned_memory(SimpleNamespace(get_input_epdevices=lambda: devices), ("cpu", 0)) is None


def test_the_processor_offers_no_pinned_memory(parts, runner):
    assert shape_buffers.pinned_memory(runner()._held.session, ("cpu", 0)) is None
