"""Runs on one device, padded to a grid of shapes, each captured once as a CUDA graph and replayed from then on.

Everything that touches the session happens in one thread of the runner's own: onnxruntime keeps captured graphs per
thread, and capture and replay must not overlap. A shape is captured in its first run, or all of them by `load_all`.
What is not of the grid, or comes after as many shapes as are kept, runs without capture.

On `provider="cpu"` the same runner takes the same way but for the capture itself, which is how it is tested; on a GPU
it has not run yet.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.engine.cuda_options import FIRST_GRAPH_ID, NOT_CAPTURED, cuda_provider_options
from crossrank.engine.encoding import TokenArrays
from crossrank.engine.session import checked_inputs, checked_logits, checked_output, open_session, run_failed
from crossrank.engine.shape_buffers import GraphInterface, ShapeBuffers, pinned_memory, run_options
from crossrank.models.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.engine.shape_grid import Shape, ShapeGrid
    from crossrank.models.manifest import Manifest, Provider

MOST_SHAPES = 64
"""Shapes with buffers and a captured graph at most: each keeps memory on the device for good."""


class GridRunner:
    """One session on one device. Runs may be asked for by several threads; they take place one after the other.

    Attributes:
        grid: the shapes.
        capture: whether runs are captured.
        not_captured_because: why not, where capture was asked for; else None.
        graph_ids: shapes with a captured graph to their ids, in the order of their capture.
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
        self.capture = capture
        self.not_captured_because: str | None = None
        self.graph_ids: dict[Shape, int] = {}
        self._device = (provider, device if provider == "cuda" else 0)
        self._most_shapes = most_shapes
        self._buffers: dict[Shape, ShapeBuffers] = {}
        self._failed: set[Shape] = set()
        self._next_id = FIRST_GRAPH_ID
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"crossrank-device-{device}")
        self._session = self._thread.submit(self._open, path, provider, device, memory_limit).result()
        (output,) = checked_output(self._session, path, manifest.num_labels)
        self._interface = GraphInterface(
            checked_inputs(self._session, path),
            output,
            labels=manifest.num_labels,
            pad_token_id=manifest.pad_token_id,
        )
        self._pinned = pinned_memory(self._session) if provider == "cuda" else None

    def run(self, arrays: TokenArrays, *, wide: bool = False) -> npt.NDArray[np.float32]:  # noqa: ARG002
        """Run one batch.

        Args:
            arrays: int64 (b, length).
            wide: of no meaning on a device.

        Returns:
            float32 (b, labels).

        Raises:
            InferenceError: onnxruntime failed, or gave something that is no number.
        """
        return self._thread.submit(self._run, arrays).result()

    def load_all(self) -> None:
        """Run, and so capture, every shape that gets buffers, the largest first.

        Raises:
            InferenceError: onnxruntime failed.
        """
        for shape in self.grid.shapes()[: self._most_shapes]:
            ones = np.ones(shape, dtype=np.int64)
            self.run(TokenArrays(ones, ones, np.zeros_like(ones)))

    def _open(self, path: Path, provider: Provider, device: int, memory_limit: int | None) -> Any:
        """The session; without capture where onnxruntime refuses this graph with it."""

        def open_with(*, capture: bool) -> Any:
            options = cuda_provider_options(device, memory_limit=memory_limit, capture=capture)
            return open_session(
                path, provider=provider, threads=1, spin=False, provider_options=options if provider == "cuda" else None
            )

        try:
            return open_with(capture=self.capture)
        except ArtifactError as error:
            if not self.capture:
                raise
            session = open_with(capture=False)
            self.capture, self.not_captured_because = False, str(error)
            return session

    def _run(self, arrays: TokenArrays) -> npt.NDArray[np.float32]:
        """In the runner's thread."""
        buffers = self._buffers_for(self.grid.padded(*arrays.input_ids.shape))
        try:
            logits = self._run_as_it_is(arrays) if buffers is None else buffers.run(arrays)
        except Exception as error:
            if buffers is None:
                raise run_failed(arrays, error) from error
            # Once more without buffers and capture; the shape stays without, because it may fail every time.
            self._give_up(buffers.shape)
            try:
                logits = self._run_as_it_is(arrays)
            except Exception:
                raise run_failed(arrays, error) from error
        return checked_logits(logits, arrays)

    def _buffers_for(self, shape: Shape) -> ShapeBuffers | None:
        """The buffers of a shape; None where it has none and gets none."""
        found = self._buffers.get(shape)
        if found is not None or not self.grid.holds(shape) or shape in self._failed:
            return found
        if len(self._buffers) >= self._most_shapes:
            return None
        graph_id = NOT_CAPTURED
        if self.capture:
            graph_id, self._next_id = self._next_id, self._next_id + 1
        try:
            made = ShapeBuffers(
                self._session, shape, self._interface, device=self._device, graph_id=graph_id, pinned=self._pinned
            )
        except Exception:  # no memory left for them
            self._failed.add(shape)
            return None
        self._buffers[shape] = made
        if self.capture:
            self.graph_ids[shape] = graph_id
        return made

    def _give_up(self, shape: Shape) -> None:
        self._failed.add(shape)
        del self._buffers[shape]
        self.graph_ids.pop(shape, None)

    def _run_as_it_is(self, arrays: TokenArrays) -> npt.NDArray[Any]:
        """Without padding rows, buffers of its own or capture."""
        feeds = {
            name: np.ascontiguousarray(getattr(arrays, name), dtype=dtype)
            for name, dtype in self._interface.dtypes.items()
        }
        (logits,) = self._session.run([self._interface.output], feeds, run_options(NOT_CAPTURED))
        found: npt.NDArray[Any] = logits
        return found
