"""Runs on one device, padded to a grid of shapes, each captured once as a CUDA graph and replayed from then on.

All code that uses the session runs in one thread that belongs to the runner, closing included: onnxruntime keeps
captured graphs per thread, and capture and replay must not overlap. A shape is captured in its first run; `load_all`
captures all of them. Three kinds of run go without capture: of a shape that is not in the grid, of a new shape when the
most shapes already have buffers, and of a shape whose run with buffers failed.

With `provider="cpu"` the runner does everything except the capture itself, which is how it is tested; on a GPU it has
not run yet.
"""

from __future__ import annotations

import logging
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.engine import process
from crossrank.engine.runtime.cuda.capture_gate import GATE
from crossrank.engine.runtime.cuda.device_thread import DeviceThread
from crossrank.engine.runtime.cuda.options import FIRST_GRAPH_ID, NOT_CAPTURED, cuda_provider_options
from crossrank.engine.runtime.cuda.shape_buffers import GraphInterface, ShapeBuffers, pinned_memory, run_options
from crossrank.engine.runtime.runner import RunResult
from crossrank.engine.runtime.session import checked_inputs, checked_logits, checked_output, open_session, run_failed
from crossrank.engine.text.encoded import TokenArrays
from crossrank.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.engine.plan.shape_grid import Shape, ShapeGrid
    from crossrank.models.manifest import Manifest, Provider

_log = logging.getLogger("crossrank")

MOST_SHAPES = 64
"""Shapes with buffers and a captured graph at most, because each occupies device memory until the runner is closed."""


class GridRunner:
    """One session on one device. Several threads may ask for runs; they execute one after the other.

    Attributes:
        grid: the shapes.
        most_shapes: how many of them get buffers.
        capture: whether runs are captured.
        not_captured_because: why runs are not captured although capture was asked for; else None.
        graph_ids: shapes with a captured graph and their ids, in the order of capture.
        failed: shapes that run without buffers because a run with buffers failed, with the error.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        *,
        grid: ShapeGrid,
        provider: Provider = "cuda",
        device: int = 0,
        memory_limit: int | None = None,
        capture: bool = True,
        most_shapes: int = MOST_SHAPES,
    ) -> None:
        """Load the graph.

        Args:
            path: the verified ONNX file.
            manifest: of its artifact.
            grid: the shapes.
            provider: 'cuda'; 'cpu' only to test this class.
            device: number of the GPU.
            memory_limit: bytes of onnxruntime's arena at most; None for no limit.
            capture: whether to capture CUDA graphs.
            most_shapes: how many shapes get buffers at most.

        Raises:
            ArtifactError: onnxruntime refuses the graph.
            ProviderError: onnxruntime placed it on another provider.
        """
        self.grid = grid
        self.most_shapes = most_shapes
        self.capture = capture
        self.not_captured_because: str | None = None
        self.graph_ids: dict[Shape, int] = {}
        self.failed: dict[Shape, str] = {}
        self._device = (provider, device if provider == "cuda" else 0)
        self._next_id = FIRST_GRAPH_ID
        self._held = _Held()
        self._thread = DeviceThread(f"crossrank-device-{device}", self._held.clear)
        self._end = weakref.finalize(self, self._thread.stop_unused)
        self._end.atexit = False
        self._interface, self._pinned = self._thread.do(partial(self._open, path, manifest, memory_limit))

    def run(self, arrays: TokenArrays) -> RunResult:
        """Run one batch.

        Args:
            arrays: int64 (b, length).

        Raises:
            InferenceError: onnxruntime failed, or returned NaN or infinity.
            ClosedError: `close` was called.
        """
        return self._thread.do(partial(self._run, arrays))

    def load_all(self) -> None:
        """Run, and so capture, every shape that gets buffers, the largest first.

        Where the grid has more than `most_shapes`, the smaller ones get buffers, because they gain most from capture.

        Raises:
            InferenceError: onnxruntime failed.
        """
        for shape in self.grid.shapes()[-self.most_shapes :]:
            ones = np.ones(shape, dtype=np.int64)
            self.run(TokenArrays(ones, ones, np.zeros_like(ones)))

    def close(self) -> None:
        """Free graphs, buffers and session in the thread that owns them, after its current run. May be called twice."""
        self._end.detach()
        self._thread.stop()
        self._thread.join()

    def leak(self) -> None:
        """Keep everything from ever being destroyed.

        For a child of `fork`, where the device's context does not work and the thread does not exist.
        """
        self._end.detach()
        process.leak(self._held)

    def _open(self, path: Path, manifest: Manifest, memory_limit: int | None) -> tuple[GraphInterface, Any]:
        """Open the session, without capture if onnxruntime refuses to capture this graph."""
        provider, device = self._device

        def open_with(*, capture: bool) -> Any:
            options = cuda_provider_options(device, memory_limit=memory_limit, capture=capture)
            with GATE.use():
                return open_session(
                    path,
                    provider=provider,
                    threads=1,
                    spin=False,
                    provider_options=options if provider == "cuda" else None,
                )

        try:
            session = open_with(capture=self.capture)
        except ArtifactError as error:
            if not self.capture:
                raise
            session = open_with(capture=False)
            self.capture, self.not_captured_because = False, str(error)
        self._held.session = session
        (output,) = checked_output(session, path, manifest.num_labels)
        interface = GraphInterface(
            checked_inputs(session, path), output, labels=manifest.num_labels, pad_token_id=manifest.pad_token_id
        )
        with GATE.use():
            pinned = pinned_memory(session, self._device) if provider == "cuda" else None
        return interface, pinned

    def _run(self, arrays: TokenArrays) -> RunResult:
        """Run one batch in the runner's thread. A shape's first run takes longer, and so does one that fails."""
        started = time.perf_counter()
        shape = self.grid.padded(*arrays.input_ids.shape)
        buffers = self._held.buffers.get(shape)
        typical = buffers is not None or not self._gets_buffers(shape)
        try:
            if buffers is not None:
                with GATE.use():
                    logits: npt.NDArray[Any] = buffers.run(arrays)
            elif self._gets_buffers(shape):
                logits = self._first_run(shape, arrays)
            else:
                logits = self._run_without_buffers(arrays)
        except Exception as error:
            typical = False
            if shape not in self._held.buffers:
                raise run_failed(arrays, error) from error
            # The capture may be incomplete, so these buffers are never used again.
            self._drop_buffers(shape)
            try:
                logits = self._run_without_buffers(arrays)
            except Exception:  # these arrays fail without buffers too; the shape gets new buffers next time
                raise run_failed(arrays, error) from error
            self._give_up(shape, error)
        return RunResult(checked_logits(logits, arrays), time.perf_counter() - started, typical)

    def _gets_buffers(self, shape: Shape) -> bool:
        return self.grid.holds(shape) and shape not in self.failed and len(self._held.buffers) < self.most_shapes

    def _first_run(self, shape: Shape, arrays: TokenArrays) -> npt.NDArray[Any]:
        """Allocate the buffers of a shape and run with them, which captures its graph."""
        graph_id = NOT_CAPTURED
        if self.capture:
            graph_id, self._next_id = self._next_id, self._next_id + 1
        try:
            with GATE.use():
                buffers = ShapeBuffers(
                    self._held.session,
                    shape,
                    self._interface,
                    device=self._device,
                    graph_id=graph_id,
                    pinned=self._pinned,
                )
        except Exception as error:  # not enough memory on the device
            logits = self._run_without_buffers(arrays)
            self._give_up(shape, error)
            return logits
        self._held.buffers[shape] = buffers
        if not self.capture:
            with GATE.use():
                return buffers.run(arrays)
        self.graph_ids[shape] = graph_id
        with GATE.capture():
            return buffers.run(arrays)

    def _drop_buffers(self, shape: Shape) -> None:
        self.graph_ids.pop(shape, None)
        with GATE.use():
            self._held.buffers.pop(shape, None)

    def _give_up(self, shape: Shape, error: Exception) -> None:
        """Run this shape without buffers from now on: a run failed with them and succeeded without."""
        if not self.failed:
            _log.warning(
                "crossrank runs %d pairs x %d tokens without buffers and capture on GPU %d, because a run with them "
                "failed: %s (info() counts such shapes)",
                *shape,
                self._device[1],
                error,
            )
        self.failed[shape] = str(error)

    def _run_without_buffers(self, arrays: TokenArrays) -> npt.NDArray[Any]:
        """Run a batch as it is: not padded to the grid, without fixed buffers, not captured."""
        feeds = {
            name: np.ascontiguousarray(getattr(arrays, name), dtype=dtype)
            for name, dtype in self._interface.dtypes.items()
        }
        with GATE.use():
            (logits,) = self._held.session.run([self._interface.output], feeds, run_options(NOT_CAPTURED))
        outputs: npt.NDArray[Any] = logits
        return outputs


class _Held:
    """What a runner's thread owns. Apart from the runner, because it has to live until that thread has freed it."""

    def __init__(self) -> None:
        self.session: Any = None
        self.buffers: dict[Shape, ShapeBuffers] = {}

    def clear(self) -> None:
        with GATE.use():
            self.buffers.clear()
            self.session = None
