"""Input and output buffers for runs of one shape, at fixed addresses that a captured CUDA graph reads and writes.

A captured graph replays with the memory addresses of its capture. So every shape has its own input and output buffers
on the device; a run copies its rows in, replays the graph, and copies the scores out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.engine.runtime.cuda.options import GRAPH_ID
from crossrank.engine.runtime.onnxruntime_build import load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from crossrank.engine.plan.shape_grid import Shape
    from crossrank.engine.text.encoded import TokenArrays

_IDS, _MASK = "input_ids", "attention_mask"


@dataclass(frozen=True)
class GraphInterface:
    """Inputs and output of a graph.

    Attributes:
        dtypes: names of the inputs and their integer types.
        output: name of its output, float32 (rows, labels).
        labels: columns of the output.
        pad_token_id: input id of padding.
    """

    dtypes: Mapping[str, type[np.integer[Any]]]
    output: str
    labels: int
    pad_token_id: int


class ShapeBuffers:
    """Buffers of one shape, bound to a session. Not thread-safe.

    Attributes:
        shape: rows and tokens of a row.
        graph_id: the id under which onnxruntime keeps the captured graph; `NOT_CAPTURED` for none.
    """

    def __init__(
        self,
        session: Any,
        shape: Shape,
        interface: GraphInterface,
        *,
        device: tuple[str, int],
        graph_id: int,
        pinned: Any = None,
    ) -> None:
        """Allocate the buffers and bind them.

        Args:
            session: onnxruntime's session.
            shape: rows and tokens of a row.
            interface: inputs and output of the graph.
            device: onnxruntime's name of the device's kind, and its number.
            graph_id: see the class.
            pinned: pinned host memory (`pinned_memory`), from which the device copies directly; None if there is none.
        """
        onnxruntime = load_onnxruntime()
        self.shape = shape
        self.graph_id = graph_id
        dtypes = interface.dtypes
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        kind, number = device
        self._padding = {name: interface.pad_token_id if name == _IDS else 0 for name in dtypes}
        self._host = {name: np.empty(shape, dtype=dtype) for name, dtype in dtypes.items()}
        self._filled = shape.rows
        self._pad_rows_from(0)
        self._inputs = {name: make(list(shape), dtype, kind, number) for name, dtype in dtypes.items()}
        self._staging = (
            {name: make(list(shape), dtype, memory_info=pinned) for name, dtype in dtypes.items()} if pinned else {}
        )
        self._output = make([shape.rows, interface.labels], np.float32, kind, number)
        self._session = session
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output(interface.output, self._output)
        self._options = run_options(graph_id)

    @property
    def addresses(self) -> dict[str, int]:
        """Device addresses of the inputs by name, and of the output under ''."""
        return {name: value.data_ptr() for name, value in {**self._inputs, "": self._output}.items()}

    def run(self, arrays: TokenArrays) -> npt.NDArray[np.float32]:
        """Run a batch that fits the shape.

        Args:
            arrays: int64 (b, length) with b at most the shape's rows, length at most its length.

        Returns:
            float32 (b, labels), not shared with the buffers.
        """
        self._fill(arrays)
        for name, array in self._host.items():
            if name in self._staging:
                self._staging[name].update_inplace(array)
                self._inputs[name].update_inplace(self._staging[name])
            else:
                self._inputs[name].update_inplace(array)
        # The provider's stream does not wait for the copies unless it is made to.
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding, self._options)
        self._binding.synchronize_outputs()
        outputs: npt.NDArray[np.float32] = np.array(self._output.numpy()[: len(arrays.input_ids)])
        return outputs

    def _fill(self, arrays: TokenArrays) -> None:
        """Write the rows over those of the last run, and clear the rows that are left of it."""
        rows, length = arrays.input_ids.shape
        for name, array in self._host.items():
            array[:rows, :length] = getattr(arrays, name)
            array[:rows, length:] = self._padding[name]
        self._pad_rows_from(rows)

    def _pad_rows_from(self, rows: int) -> None:
        """Make padding of the rows that the last run wrote from `rows` on."""
        for name, array in self._host.items():
            array[rows : self._filled] = self._padding[name]
        if _MASK in self._host:
            # A padding row has one token too, because a length of zero is invalid in the fused attention.
            self._host[_MASK][rows : self._filled, 0] = 1
        self._filled = rows


def run_options(graph_id: int) -> Any:
    """Options of a run that replays a captured graph, or of one that is not captured."""
    options = load_onnxruntime().RunOptions()
    options.add_run_config_entry(GRAPH_ID, str(graph_id))
    return options


def pinned_memory(session: Any, device: tuple[str, int]) -> Any:
    """Pinned host memory for a session's inputs, if this onnxruntime offers it and it works; else None.

    onnxruntime's interface for it is new, so it is tried first, with a few numbers of both integer types copied as
    inputs are. Not run on a GPU yet.

    Args:
        session: onnxruntime's session.
        device: onnxruntime's name of the device's kind, and its number.
    """
    onnxruntime = load_onnxruntime()
    make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
    try:
        kinds = onnxruntime.OrtDeviceMemoryType
        (pinned,) = {item.memory_info(kinds.HOST_ACCESSIBLE) for item in session.get_input_epdevices()[:1]}
        if pinned is None:
            return None
        for dtype in (np.int32, np.int64):
            staging, target = make([2], dtype, memory_info=pinned), make([2], dtype, *device)
            for numbers in ([1, 2], [3, 4]):  # twice, because every run reuses the memory
                staging.update_inplace(np.asarray(numbers, dtype=dtype))
                target.update_inplace(staging)
                if target.numpy().tolist() != numbers:
                    return None
    except Exception:  # the offered memory does not work, so it is not used
        return None
    return pinned
