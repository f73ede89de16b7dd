"""While a graph is captured nothing else in this process uses a GPU, and a capture does not wait forever."""

import threading
import time

import pytest
from grid_cases import GRID, batch

from crossrank.engine.runtime.cuda import grid_runner
from crossrank.engine.runtime.cuda.capture_gate import CaptureGate
from crossrank.engine.runtime.cuda.shape_buffers import ShapeBuffers

WAIT = 30


def test_users_share_the_devices_and_a_capture_is_alone():
    gate, inside, seen = CaptureGate(), [], []
    lock = threading.Lock()

    def enter(kind):
        for _ in range(20):
            with gate.use() if kind == "use" else gate.capture():
                with lock:
                    inside.append(kind)
                    seen.append(sorted(inside))
                time.sleep(0.001)
                with lock:
                    inside.remove(kind)

    threads = [threading.Thread(target=enter, args=(kind,)) for kind in ("use",) * 4 + ("capture",) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(seen) == 120
    assert all("capture" not in kinds or kinds == ["capture"] for kinds in seen)
    assert any(len(kinds) > 1 for kinds in seen), "users never shared the devices"


def test_a_waiting_capture_goes_before_users_that_come_later():
    gate, order = CaptureGate(), []
    waiting = threading.Event()

    def capture():
        waiting.set()
        with gate.capture():
            order.append("capture")

    def use():
        with gate.use():
            order.append("use")

    first, second = threading.Thread(target=capture), threading.Thread(target=use)
    with gate.use():
        first.start()
        assert waiting.wait(WAIT)
        while not gate._waiting_captures:
            time.sleep(0.001)
        second.start()
        time.sleep(0.05)
        assert order == []
    first.join(WAIT)
    second.join(WAIT)
    assert order == ["capture", "use"]


def test_an_error_inside_releases_the_lock():
    gate = CaptureGate()
    for enter in (gate.capture, gate.use, gate.capture):
        with pytest.raises(ZeroDivisionError), enter():
            1 / 0  # noqa: B018
    with gate.use(), gate.use():
        pass


def test_only_a_shapes_first_run_with_capture_is_alone(parts, monkeypatch):
    path, manifest, _ = parts
    entered, ran = [], []

    class Watched(CaptureGate):
        def use(self):
            entered.append("use")
            return super().use()

        def capture(self):
            entered.append("capture")
            return super().capture()

    monkeypatch.setattr(grid_runner, "GATE", Watched())
    run = ShapeBuffers.run
    monkeypatch.setattr(ShapeBuffers, "run", lambda self, arrays: ran.append(entered[-1]) or run(self, arrays))
    runner = grid_runner.GridRunner(path, manifest, grid=GRID, provider="cpu")
    for rows in (2, 2, 4, 2):
        runner.run(batch(rows, 8))
    runner.run(batch(2, 40))
    assert ran == ["capture", "use", "capture", "use"]
    assert entered[-1] == "use"
    other = grid_runner.GridRunner(path, manifest, grid=GRID, provider="cpu", capture=False)
    entered.clear()
    other.run(batch(2, 8))
    assert set(entered) == {"use"}
