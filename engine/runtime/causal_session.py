"""Graphs of causal models: what comes before the documents of a query is computed once and given to every run.

In a causal model a token attends to those before it, so keys and values of a pair's beginning are the same whatever the
document is. Rows of a run that begin alike share them, and so do later runs: the last ones are kept. Every row is
computed in this way, whatever is beside it, so that no score depends on its call.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from crossrank.engine.runtime.session import GraphSession, checked_logits, open_session, run_failed
from crossrank.engine.text.encoded import TokenArrays
from crossrank.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.models.manifest import Manifest

    KeysAndValues: TypeAlias = dict[str, npt.NDArray[np.float32]]

KEPT_BYTES = 256 * 2**20
"""Keys and values of beginnings that a session keeps; the last one is kept however large it is."""
_BEGINNING = "beginning."
_LOGITS = "logits"


def open_graph(path: Path, manifest: Manifest, *, threads: int, spin: bool) -> GraphSession | CausalSession:
    """Load a graph of an artifact on the CPU; for the arguments see `GraphSession`.

    Raises:
        ArtifactError: onnxruntime refuses the graph, or its inputs or outputs are not those of its kind.
        ProviderError: onnxruntime placed it on another provider.
    """
    kind = CausalSession if manifest.causal else GraphSession
    return kind(path, manifest, threads=threads, spin=spin)


class _Beginning(NamedTuple):
    """Where rows with the same beginning are.

    Attributes:
        tokens: its ids.
        rows: their indices.
    """

    tokens: tuple[int, ...]
    rows: list[int]


class CausalSession:
    """A causal model's graph loaded on the CPU. Several threads may run it at once."""

    def __init__(self, path: Path, manifest: Manifest, *, threads: int, spin: bool) -> None:
        """Load a graph.

        Args:
            path: the ONNX file, already verified.
            manifest: of its artifact.
            threads: threads inside an operator.
            spin: whether idle threads of a run spin until the next operator.

        Raises:
            ArtifactError: onnxruntime refuses the graph, or it takes no beginning.
            ProviderError: onnxruntime placed it on another provider.
        """
        self._session = open_session(path, provider="cpu", threads=threads, spin=spin)
        self._pad_token_id = manifest.pad_token_id
        inputs = {item.name: item for item in self._session.get_inputs()}
        outputs = [item.name for item in self._session.get_outputs()]
        self._names = sorted(name.removeprefix(_BEGINNING) for name in inputs if name.startswith(_BEGINNING))
        if not self._names or not {_LOGITS, *self._names} <= set(outputs) or "input_ids" not in inputs:
            raise ArtifactError(
                f"graph {path} takes {sorted(inputs)} and gives {sorted(outputs)}; of a causal model logits, and keys "
                f"and values of every layer as inputs and outputs are expected"
            )
        self._takes_mask = "attention_mask" in inputs
        _, heads, _, size = inputs[f"{_BEGINNING}{self._names[0]}"].shape
        self._none = {name: np.empty((1, heads, 0, size), dtype=np.float32) for name in self._names}
        self._known: OrderedDict[tuple[int, ...], Future[KeysAndValues]] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, arrays: TokenArrays) -> npt.NDArray[np.float32]:
        """Score one batch.

        Args:
            arrays: int64 (b, length), padded on the right; segment id 1 from a row's document on.

        Returns:
            float32 (b, labels).

        Raises:
            InferenceError: onnxruntime failed, or returned NaN or infinity.
        """
        lengths = arrays.attention_mask.sum(axis=1)
        parts: list[npt.NDArray[np.float32]] = []
        order: list[int] = []
        for beginning in self._beginnings(arrays, lengths):
            rows, start = beginning.rows, len(beginning.tokens)
            longest = int(lengths[rows].max())
            rest = TokenArrays(*(array[rows, start:longest] for array in arrays))
            known = self._keys_and_values(beginning.tokens, arrays) if start else self._none
            parts.append(self._run([_LOGITS], rest, known, arrays)[0])
            order += rows
        logits = np.concatenate(parts)[np.argsort(order)]
        return checked_logits(logits, arrays)

    def _beginnings(self, arrays: TokenArrays, lengths: npt.NDArray[np.int64]) -> list[_Beginning]:
        """The rows, by what comes before their documents.

        The token whose logits are read, and one that is no padding token, must be left for the run itself. Rows that
        are not marked have no beginning.
        """
        ids, types = arrays.input_ids, arrays.token_type_ids
        found: dict[tuple[int, ...], _Beginning] = {}
        starts = np.where(types.any(axis=1), types.argmax(axis=1), 0)
        for row, start in enumerate(np.minimum(starts, lengths - 1).tolist()):
            if np.all(ids[row, start : lengths[row]] == self._pad_token_id):
                start = 0  # noqa: PLW2901  the whole row is computed together
            tokens = tuple(ids[row, :start].tolist())
            found.setdefault(tokens, _Beginning(tokens, [])).rows.append(row)
        return list(found.values())

    def _keys_and_values(self, tokens: tuple[int, ...], arrays: TokenArrays) -> KeysAndValues:
        """Keys and values of a beginning, computed by the first run that needs them; others wait for it."""
        with self._lock:
            future = self._known.get(tokens)
            first = future is None
            if future is None:
                future = self._known[tokens] = Future()
            self._known.move_to_end(tokens)
        if not first:
            return future.result()
        ids = np.asarray(tokens, dtype=np.int64)[np.newaxis]
        try:
            own = TokenArrays(ids, np.ones_like(ids), np.zeros_like(ids))
            values = self._run(self._names, own, self._none, arrays)
        except BaseException as error:
            with self._lock:
                self._known.pop(tokens, None)
            future.set_exception(error)
            raise
        found = dict(zip(self._names, values, strict=True))
        future.set_result(found)
        self._forget(sum(value.nbytes for value in found.values()) / max(len(tokens), 1))
        return found

    def _forget(self, bytes_per_token: float) -> None:
        """Let go of the beginnings that were used longest ago, beyond `KEPT_BYTES`."""
        with self._lock:
            size = sum(map(len, self._known)) * bytes_per_token
            while len(self._known) > 1 and size > KEPT_BYTES:
                tokens, future = next(iter(self._known.items()))
                if not future.done():  # its run is in progress
                    break
                del self._known[tokens]
                size -= len(tokens) * bytes_per_token

    def _run(
        self, outputs: list[str], tokens: TokenArrays, beginning: KeysAndValues, whole: TokenArrays
    ) -> list[npt.NDArray[np.float32]]:
        feeds: dict[str, npt.NDArray[Any]] = {f"{_BEGINNING}{name}": value for name, value in beginning.items()}
        feeds["input_ids"] = np.ascontiguousarray(tokens.input_ids)
        if self._takes_mask:
            feeds["attention_mask"] = np.ascontiguousarray(tokens.attention_mask)
        try:
            found: list[npt.NDArray[np.float32]] = self._session.run(outputs, feeds)
        except Exception as error:
            raise run_failed(whole, error) from error
        return found
