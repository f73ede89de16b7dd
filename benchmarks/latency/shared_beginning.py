"""What a decoder saves where the beginning of a query's pairs is computed once; docs/llm-rerankers.md has figures.

    python -m crossrank.benchmarks.latency.shared_beginning --layers 12 --hidden 512

Weights are made up, so scores mean nothing; times do not depend on them. Processor time of one thread is counted,
because it says the same on a busy machine. Both ways take turns in one process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np

from crossrank.engine.runtime.causal_session import CausalSession
from crossrank.engine.text.encoded import TokenArrays
from crossrank.export.decoder.graph import write_graph
from crossrank.export.decoder.share_beginning import share_beginning
from crossrank.export.decoder.weights import DecoderWeights, Layer, Linear
from crossrank.export.graph.files import save_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from crossrank.models.manifest import Manifest

_TOKENS = 4096
_HEAD_SIZE = 64
_PAIRS = ((80, 64), (80, 128), (80, 256), (160, 128), (30, 480))
"""Tokens before the document, and of the document with what comes after it."""


class MadeUpWeights(DecoderWeights):
    """Random weights of a decoder like Qwen3: half as many heads of keys as of queries, norms over each head."""

    def __init__(self, layers: int, hidden: int) -> None:
        self._random = np.random.default_rng(0)
        self._hidden = hidden
        self.layer_count, self.head_size, self.epsilon = layers, _HEAD_SIZE, 1e-6
        self.heads = hidden // _HEAD_SIZE
        self.key_heads = self.heads // 2
        self.activation = "silu"
        self.embeddings = self._matrix(_TOKENS, hidden)
        self.embedding_scale, self.rotary_scale = 1.0, 1.0
        self.frequencies = np.asarray(1e6 ** (-np.arange(0, _HEAD_SIZE, 2) / _HEAD_SIZE), dtype=np.float32)
        self.norm = np.ones(hidden, np.float32)
        self.head = self._matrix(hidden, 1)
        self.pad_token_id = None

    def layer(self, index: int) -> Layer:  # noqa: ARG002
        """A layer whose feed-forward is three times as wide as it."""
        size, ones = self._hidden, np.ones(self._hidden, np.float32)
        keys, one_head = self.key_heads * _HEAD_SIZE, np.ones(_HEAD_SIZE, np.float32)
        shapes = ((size, size), (size, keys), (size, keys), (size, size), (size, 3 * size), (size, 3 * size))
        query, key, value, output, gate, up = (Linear(self._matrix(*shape), None) for shape in shapes)
        down = Linear(self._matrix(3 * size, size), None)
        return Layer(ones, query, key, value, output, one_head, one_head, ones, gate, up, down)

    def _matrix(self, rows: int, columns: int) -> NDArray[np.float32]:
        return self._random.standard_normal((rows, columns), dtype=np.float32) / np.float32(rows**0.5)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--rows", type=int, default=4, help="pairs of a run")
    parser.add_argument("--documents", type=int, default=20, help="of a query")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    weights = MadeUpWeights(chosen.layers, chosen.hidden)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fp32.onnx"
        save_graph(share_beginning(write_graph(weights)).model, path.parent, path.name)
        session = CausalSession(path, cast("Manifest", SimpleNamespace(pad_token_id=0)), threads=1, spin=False)
    print(f"{chosen.layers} layers of {chosen.hidden}, {chosen.documents} documents a query, {chosen.rows} a run")
    print("before | document | whole ms a pair | shared ms a pair | ratio | largest difference | kept KB a query")
    for before, document in _PAIRS:
        whole, shared, difference = _compare(session, before, document, chosen)
        ratios = sorted(one / other for one, other in zip(shared, whole, strict=True))
        kept = 2 * chosen.layers * weights.key_heads * _HEAD_SIZE * 4 * before / 1024
        print(
            f"{before} | {document} | {1000 * np.median(whole):.1f} | {1000 * np.median(shared):.1f} | "
            f"{np.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}] | {difference:.1e} | {kept:.0f}"
        )


def _compare(
    session: CausalSession, before: int, document: int, chosen: argparse.Namespace
) -> tuple[list[float], list[float], float]:
    """Processor seconds a pair of both ways, once a round, and how far their scores are apart."""
    random = np.random.default_rng(1)
    whole, shared, difference = [], [], 0.0
    for _ in range(chosen.rounds):
        # Another query each time: its beginning has to be computed.
        beginning = np.broadcast_to(random.integers(1, _TOKENS, before), (chosen.documents, before))
        ids = np.concatenate([beginning, random.integers(1, _TOKENS, (chosen.documents, document))], axis=1)
        marks = np.zeros_like(ids)
        apart, seconds = _timed(partial(_run, session, ids, marks, chosen.rows))
        whole.append(seconds / chosen.documents)
        marks = (np.arange(ids.shape[1]) >= before).astype(np.int64) + marks
        together, seconds = _timed(partial(_run, session, ids, marks, chosen.rows))
        shared.append(seconds / chosen.documents)
        difference = max(difference, float(np.abs(apart - together).max()))
    return whole, shared, difference


def _run(session: CausalSession, ids: NDArray[np.int64], marks: NDArray[np.int64], rows: int) -> NDArray[np.float32]:
    arrays = TokenArrays(ids, np.ones_like(ids), marks)
    return np.concatenate(
        [session.run(TokenArrays(*(array[at : at + rows] for array in arrays))) for at in range(0, len(ids), rows)]
    )


def _timed(run: Callable[[], NDArray[np.float32]]) -> tuple[NDArray[np.float32], float]:
    started = time.process_time()
    return run(), time.process_time() - started


if __name__ == "__main__":
    main()
