"""Fits the cost model to this machine: times a few short runs, fits by least squares, and stores the fit in a file.

There is one fit per graph, processor and onnxruntime version, in the user's cache folder. Nothing is measured unless
`ArtifactReranker.calibrate` is called; without a stored fit `CostModel.of` is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.plan.batch_kinds import GridShapes
from crossrank.engine.plan.cost import CostModel
from crossrank.engine.text.encoded import TokenArrays
from crossrank.errors import CacheFolderError
from crossrank.models.user_folders import used_folder, user_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from crossrank.engine.plan.batch_kinds import BatchKind
    from crossrank.engine.plan.shape_grid import ShapeGrid
    from crossrank.engine.runtime.runner import RunBatch, Runner

CACHE_VARIABLE = "CROSSRANK_CALIBRATION"
"""Environment variable that names the folder of fits, instead of one in the user's cache folder."""

_SHAPES = ((1, 16), (1, 64), (1, 192), (1, 448), (2, 32), (4, 16), (4, 96), (8, 48), (2, 256))
"""Shapes timed on a core: rows and length."""
_MEAN_LENGTHS = (32, 64, 128)
"""Mean tokens of a pair in the packed runs that are timed."""
_PAIRS_TOGETHER = (2, 4)
_REPEATS = 3
_SMALLEST = 1e-9
"""Seconds below which no coefficient goes: a negative one would reward work."""


def fit(runner: Runner, kind: BatchKind, max_length: int) -> CostModel:
    """Time runs and fit the coefficients of their time.

    Args:
        runner: of the graph.
        kind: what its runs may hold.
        max_length: tokens a pair may have at most.

    Raises:
        InferenceError: onnxruntime failed.
    """
    run = partial(_run_shape, runner.run)
    shapes = (
        grid_shapes(kind.grid) if isinstance(kind, GridShapes) else core_shapes(max_length, single=not kind.shares_runs)
    )
    cost = measure(run, shapes)
    if runner.run_on_all_cores is not None:
        alone = [(1, length) for rows, length in shapes if rows == 1]
        efficiency = measure_operator_efficiency(
            run, partial(_run_shape, runner.run_on_all_cores), runner.processors, alone
        )
        cost = dataclasses.replace(cost, operator_efficiency=efficiency)
    if kind.mixes_lengths and not kind.pads:
        cost = dataclasses.replace(cost, packing=measure_packing(partial(_run_lengths, runner.run), cost, max_length))
    return cost


def core_shapes(max_length: int, *, single: bool) -> list[tuple[int, int]]:
    """Rows and lengths to time on a core.

    Args:
        max_length: tokens a row may have at most.
        single: only shapes of one row, for a graph with 'single' batching.
    """
    return [(1 if single else rows, min(length, max_length)) for rows, length in _SHAPES]


def grid_shapes(grid: ShapeGrid) -> list[tuple[int, int]]:
    """Rows and lengths to time on a device: for every length one row, a few, and the most a run holds."""
    shapes = {
        (rows, length)
        for length in grid.lengths
        for most in [grid.most_rows(length)]
        for rows in (1, 1 << (most.bit_length() // 2), most)
    }
    return sorted(shapes)


def measure(run: Callable[[int, int], object], shapes: Sequence[tuple[int, int]]) -> CostModel:
    """Time runs of several shapes and fit a cost model to them.

    The fit minimises relative errors, so that short and long runs have equal weight. The fastest of a
    few repeats is taken for each shape, because another process on the machine can only make a run slower.

    Args:
        run: performs a run, given its rows and its length in tokens.
        shapes: rows and length of each.
    """
    seconds = np.array([_fastest(partial(run, rows, length)) for rows, length in shapes])
    rows, length = np.array(shapes, dtype=np.float64).T
    terms = np.stack([np.ones_like(rows), rows, rows * length, rows * length**2], axis=1)
    coefficients = _non_negative_fit(terms / seconds[:, None], np.ones_like(seconds))
    return CostModel(*(float(max(value, _SMALLEST)) for value in coefficients))


def measure_operator_efficiency(
    on_one: Callable[[int, int], object],
    on_all: Callable[[int, int], object],
    cores: int,
    shapes: Sequence[tuple[int, int]],
) -> float:
    """Time runs on one core and on all cores, and return the median share of perfect speed-up over the shapes.

    Args:
        on_one: performs a run on one core, given its rows and its length in tokens.
        on_all: performs the same run on all cores.
        cores: how many cores the machine has.
        shapes: rows and length of each.
    """
    shares = [_fastest(partial(on_one, *shape)) / (cores * _fastest(partial(on_all, *shape))) for shape in shapes]
    return float(np.clip(np.median(shares), _SMALLEST, 1.0))


def measure_packing(run: Callable[[Sequence[int]], object], cost: CostModel, max_length: int) -> float:
    """Compare packed runs of pairs of different lengths with runs of as many tokens in pairs of one length.

    Args:
        run: performs a run, given the lengths of its pairs.
        cost: the fit so far; its fixed cost of a run is subtracted from both times.
        max_length: tokens a pair may have at most.

    Returns:
        The median share by which pairs take longer in a run of different lengths; `cost.packing` if the model's
        maximum length leaves no room for different lengths.
    """
    shares = []
    for mean in sorted({min(mean, 4 * max_length // 5) for mean in _MEAN_LENGTHS}):
        for rows in _PAIRS_TOGETHER:
            uneven = _around(mean, rows)
            if len(set(uneven)) > 1:
                even = _fastest(partial(run, [mean] * rows))
                shares.append((_fastest(partial(run, uneven)) - even) / max(even - cost.run, _SMALLEST))
    return float(np.clip(np.median(shares), _SMALLEST, 1.0)) if shares else cost.packing


def remember(cost: CostModel, graph_sha256: str, onnxruntime_version: str, device: str | None = None) -> Path:
    """Write a fit to the cache folder; returns the file.

    Args:
        cost: the fit.
        graph_sha256: digest of the graph's file.
        onnxruntime_version: the version that ran the graph.
        device: name of the GPUs that ran it; None for this machine's processor.

    Raises:
        CacheFolderError: there is no such folder, or it cannot be written.
    """
    path = _file(graph_sha256, onnxruntime_version, device)
    with used_folder(path.parent, CACHE_VARIABLE):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(dataclasses.asdict(cost)), encoding="utf-8")
        temporary.replace(path)
    return path


def recall(graph_sha256: str, onnxruntime_version: str, device: str | None = None) -> CostModel | None:
    """Read the fit of a graph on this machine, or None where there is none that can be read; see `remember`."""
    with contextlib.suppress(CacheFolderError, OSError, ValueError, TypeError, AttributeError):
        values = json.loads(_file(graph_sha256, onnxruntime_version, device).read_text(encoding="utf-8"))
        cost = CostModel(**{name: float(value) for name, value in values.items()})
        if all(np.isfinite(value) and value > 0 for value in dataclasses.astuple(cost)):
            return cost
    return None


def _file(graph_sha256: str, onnxruntime_version: str, device: str | None) -> Path:
    key = hashlib.sha256(f"{graph_sha256}\0{device or _processor()}\0{onnxruntime_version}".encode()).hexdigest()[:32]
    return user_folder("calibration", CACHE_VARIABLE) / f"{key}.json"


def _processor() -> str:
    """The processor's name, or its architecture where the system does not give a name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line
    return platform.processor() or platform.machine()


def _run_shape(run: RunBatch, rows: int, length: int) -> object:
    return _run_lengths(run, [length] * rows)


def _run_lengths(run: RunBatch, lengths: Sequence[int]) -> object:
    """Run pairs of these lengths, made of a token id that every vocabulary has."""
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return run(TokenArrays(np.ones_like(mask), mask, np.zeros_like(mask)))


def _around(mean: int, rows: int) -> list[int]:
    """`rows` lengths, an even number, spread from three quarters to five quarters of their mean."""
    steps = [mean // 4 * step // (rows // 2) for step in range(rows // 2, 0, -1)]
    return [mean - step for step in steps] + [mean + step for step in reversed(steps)]


def _fastest(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def _non_negative_fit(terms: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least squares with coefficients of at least 0: the most negative one is set to 0 until none is negative."""
    columns = list(range(terms.shape[1]))
    while True:
        solution, *_ = np.linalg.lstsq(terms[:, columns], target, rcond=None)
        if len(columns) == 1 or solution.min() >= 0:
            coefficients = np.zeros(terms.shape[1])
            coefficients[columns] = np.maximum(solution, 0)
            return coefficients
        del columns[int(solution.argmin())]
