"""Runs on one device, padded to a grid of shapes, each captured once as a CUDA graph and replayed from then on.

Everything that touches the session happens in one thread of the runner's own, its end included: onnxruntime keeps
captured graphs per thread, and capture and replay must not overlap. A shape is captured in its first run, or all of
them by `load_all`. What is not of the grid, or comes after as many shapes as are kept, runs without capture, and so
does a shape whose run with buffers failed.

On `provider="cpu"` the same runner takes the same way but for the capture itself, which is how it is tested; on a GPU
it has not run yet.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.engine.runtime.cuda.capture_gate import GATE
from crossrank.engine.runtime.cuda.device_thread import DeviceThread
from crossrank.engine.runtime.cuda.options import FIRST_GRAPH_ID, NOT_CAPTURED, cuda_provider_options
from crossrank.engine.runtime.cuda.shape_buffers import GraphInterface, ShapeBuffers, pinned_memory, run_options
from crossrank.engine.runtime.session import checked_inputs, checked_logits, checked_output, open_session, run_failed
from crossrank.engine.text.encoding import TokenArrays
from crossrank.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.engine.plan.shape_grid import Shape, ShapeGrid
    from crossrank.models.manifest import Manifest, Provider

_log = logging.getLogger("crossrank")

_EXIT_SECONDS = 10.0
_alive: weakref.WeakSet[GridRunner] = weakref.WeakSet()

MOST_SHAPES = 64
"""Shapes with buffers and a captured graph at most: each keeps memory on the device for good."""


class GridRunner:
    """One session on one device. Runs may be asked for by several threads; they take place one after the other.

    Attributes:
        grid: the shapes.
        most_shapes: how many of them get buffers.
        capture: whether runs are captured.
        not_captured_because: why not, where capture was asked for; else None.
        graph_ids: shapes with a captured graph to their ids, in the order of their capture.
        failed: shapes that go without buffers because a run with them failed, and why.
        typical: whether the last run took as long as such runs take; the first of a shape takes longer.
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
            provider: 'cuda'; 'cpu' only to check this class.
            device: number of the GPU.
            memory_limit: bytes of the arena at most.
            capture: whether to capture CUDA graphs.
            most_shapes: how many shapes get buffers of their own.

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
        self.typical = True
        self._device = (provider, device if provider == "cuda" else 0)
        self._next_id = FIRST_GRAPH_ID
        self._thread = DeviceThread(f"crossrank-device-{device}")
        self._held = _Held()
        self._end = weakref.finalize(self, self._thread.stop_unused, self._held.clear)
        self._end.atexit = False
        self._interface, self._pinned = self._thread.do(partial(self._open, path, manifest, memory_limit))
        _alive.add(self)

    def run(self, arrays: TokenArrays, *, all_cores: bool = False) -> npt.NDArray[np.float32]:  # noqa: ARG002
        """Run one batch.

        Args:
            arrays: int64 (b, length).
            all_cores: ignored; a run takes the whole device.

        Returns:
            float32 (b, labels).

        Raises:
            InferenceError: onnxruntime failed, or gave something that is no number.
            ClosedError: `close` was called.
        """
        return self._thread.do(partial(self._run, arrays))

    def load_all(self) -> None:
        """Run, and so capture, every shape that gets buffers, the largest first.

        Where there are more shapes than buffers, the smaller ones get them: capture saves more of their time.

        Raises:
            InferenceError: onnxruntime failed.
        """
        for shape in self.grid.shapes()[-self.most_shapes :]:
            ones = np.ones(shape, dtype=np.int64)
            self.run(TokenArrays(ones, ones, np.zeros_like(ones)))

    def close(self, timeout: float | None = None) -> None:
        """Free graphs, buffers and session, in the thread that owns them, after its run. Closing twice does nothing.

        Args:
            timeout: seconds to wait for that at most.
        """
        self._end.detach()
        self._thread.stop(self._held.clear)
        self._thread.join(timeout)

    def leak(self) -> None:
        """Keep everything from ever being destroyed.

        For a child of `fork`, where the device's context does not work and the thread does not exist.
        """
        self._end.detach()
        _alive.discard(self)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._held))

    def _open(self, path: Path, manifest: Manifest, memory_limit: int | None) -> tuple[GraphInterface, Any]:
        """The session; without capture where onnxruntime refuses this graph with it."""
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

    def _run(self, arrays: TokenArrays) -> npt.NDArray[np.float32]:
        """In the runner's thread."""
        shape = self.grid.padded(*arrays.input_ids.shape)
        buffers = self._held.buffers.get(shape)
        self.typical = buffers is not None or not self._gets_buffers(shape)
        try:
            if buffers is not None:
                with GATE.use():
                    logits: npt.NDArray[Any] = buffers.run(arrays)
            elif self._gets_buffers(shape):
                logits = self._first_run(shape, arrays)
            else:
                logits = self._run_as_it_is(arrays)
        except Exception as error:
            self.typical = False
            if shape not in self._held.buffers:
                raise run_failed(arrays, error) from error
            # Perhaps captured only in part: never used again.
            self._drop_buffers(shape)
            try:
                logits = self._run_as_it_is(arrays)
            except Exception:  # then it is these arrays that fail, and the next ones get new buffers
                raise run_failed(arrays, error) from error
            self._give_up(shape, error)
        return checked_logits(logits, arrays)

    def _gets_buffers(self, shape: Shape) -> bool:
        return self.grid.holds(shape) and shape not in self.failed and len(self._held.buffers) < self.most_shapes

    def _first_run(self, shape: Shape, arrays: TokenArrays) -> npt.NDArray[Any]:
        """Make the buffers of a shape and run with them, which captures its graph."""
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
        except Exception as error:  # no memory left for them
            logits = self._run_as_it_is(arrays)
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
        """Leave a shape without buffers: what failed with them went well without."""
        if not self.failed:
            _log.warning(
                "crossrank runs %d pairs x %d tokens without buffers and capture on GPU %d, because a run with them "
                "failed: %s (info() counts such shapes)",
                *shape,
                self._device[1],
                error,
            )
        self.failed[shape] = str(error)

    def _run_as_it_is(self, arrays: TokenArrays) -> npt.NDArray[Any]:
        """Without padding rows, buffers of its own or capture."""
        feeds = {
            name: np.ascontiguousarray(getattr(arrays, name), dtype=dtype)
            for name, dtype in self._interface.dtypes.items()
        }
        with GATE.use():
            (logits,) = self._held.session.run([self._interface.output], feeds, run_options(NOT_CAPTURED))
        rows: npt.NDArray[Any] = logits
        return rows


class _Held:
    """What a runner's thread owns, apart from the runner: it outlives the runner until that thread has freed it."""

    def __init__(self) -> None:
        self.session: Any = None
        self.buffers: dict[Shape, ShapeBuffers] = {}

    def clear(self) -> None:
        with GATE.use():
            self.buffers.clear()
            self.session = None


def _end_with_the_interpreter() -> None:
    """Free devices while CUDA's libraries are still whole."""
    for runner in list(_alive):
        runner.close(_EXIT_SECONDS)


atexit.register(_end_with_the_interpreter)
