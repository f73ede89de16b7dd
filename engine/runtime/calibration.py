"""Fitting the cost model to this machine: a few short runs, a least-squares fit, a small file to remember it.

The fit is remembered per graph, processor and onnxruntime version, in the user's cache folder. Nothing is measured
unless `ArtifactReranker.calibrate` is called; without a remembered fit the default of `CostModel.of` serves.
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

from crossrank.engine.plan.cost import CostModel
from crossrank.engine.text.encoding import TokenArrays
from crossrank.errors import CacheFolderError
from crossrank.models.user_folders import used_folder, user_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from crossrank.engine.plan.shape_grid import ShapeGrid
    from crossrank.engine.runtime.runner import Runner
    from crossrank.models.manifest import Batching

CACHE_VARIABLE = "CROSSRANK_CALIBRATION"
"""Environment variable that names the folder of fits, instead of one in the user's cache folder."""

_SHAPES = ((1, 16), (1, 64), (1, 192), (1, 448), (2, 32), (4, 16), (4, 96), (8, 48), (2, 256))
"""Shapes timed on a processor's core."""
_MEAN_LENGTHS = (32, 64, 128)
"""Mean tokens of the pairs in packed runs that are timed."""
_PAIRS_TOGETHER = (2, 4)
_REPEATS = 3
_SMALLEST = 1e-9
"""Seconds below which no coefficient goes: a negative one would reward work."""


def fit_cores(runner: Runner, batching: Batching, cores: int, max_length: int) -> CostModel:
    """Time runs on the processor's cores and fit all coefficients.

    Args:
        runner: of the graph.
        batching: what its runs may hold.
        cores: how many a run may have.
        max_length: tokens a pair may have at most.

    Raises:
        InferenceError: onnxruntime failed.
    """
    run = partial(_run_shape, runner)
    shapes = core_shapes(max_length, single=batching == "single")
    cost = measure(run, shapes)
    if runner.splits_runs:
        alone = [(1, length) for rows, length in shapes if rows == 1]
        gained = measure_operator_efficiency(run, partial(run, all_cores=True), cores, alone)
        cost = dataclasses.replace(cost, operator_efficiency=gained)
    if batching == "packed":
        cost = dataclasses.replace(cost, packing=measure_packing(partial(_run_lengths, runner), cost, max_length))
    return cost


def fit_device(runner: Runner, grid: ShapeGrid) -> CostModel:
    """Time runs on a GPU and fit the coefficients of a run's time.

    Args:
        runner: of the graph.
        grid: the shapes of its runs.

    Raises:
        InferenceError: onnxruntime failed.
    """
    return measure(partial(_run_shape, runner), grid_shapes(grid))


def core_shapes(max_length: int, *, single: bool) -> list[tuple[int, int]]:
    """Rows and lengths to time on a core.

    Args:
        max_length: tokens a row may have at most.
        single: of one row alone, for a graph that allows no others.
    """
    return [(1 if single else rows, min(length, max_length)) for rows, length in _SHAPES]


def grid_shapes(grid: ShapeGrid) -> list[tuple[int, int]]:
    """Rows and lengths to time on a device: of every length one row, a few, and as many as a run holds."""
    shapes = {
        (rows, length)
        for length in grid.lengths
        for most in [grid.most_rows(length)]
        for rows in (1, 1 << (most.bit_length() // 2), most)
    }
    return sorted(shapes)


def measure(run: Callable[[int, int], object], shapes: Sequence[tuple[int, int]]) -> CostModel:
    """Time runs of several shapes and fit a cost model to them.

    The fit minimises relative errors, so that short and long runs count alike. The fastest of a few
    repeats stands for a shape, because another process on the machine can only make a run slower.

    Args:
        run: performs a run of some rows of some tokens.
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
    """Time runs on one core and on all of them; the median share of perfect speed-up over the shapes.

    Args:
        on_one: performs a run of some rows of some tokens on one core.
        on_all: the same on all cores.
        cores: how many there are.
        shapes: rows and length of each.
    """
    shares = [_fastest(partial(on_one, *shape)) / (cores * _fastest(partial(on_all, *shape))) for shape in shapes]
    return float(np.clip(np.median(shares), _SMALLEST, 1.0))


def measure_packing(run: Callable[[Sequence[int]], object], cost: CostModel, max_length: int) -> float:
    """Time packed runs of pairs of several lengths against runs of as many tokens in pairs of one length.

    Args:
        run: performs a run of pairs of these lengths.
        cost: the fit so far; gives the part of a run that is the same for both.
        max_length: tokens a pair may have at most.

    Returns:
        The median share by which pairs take longer together with pairs of other lengths; what `cost` says where pairs
        are too short to differ.
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
        graph_sha256: of what graph.
        onnxruntime_version: with which it was run.
        device: what ran it; None for this machine's processor.

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
    """The processor's name, as far as the system says."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line
    return platform.processor() or platform.machine()


def _run_shape(runner: Runner, rows: int, length: int, *, all_cores: bool = False) -> object:
    return _run_lengths(runner, [length] * rows, all_cores=all_cores)


def _run_lengths(runner: Runner, lengths: Sequence[int], *, all_cores: bool = False) -> object:
    """Run pairs of these lengths, of a token that every vocabulary has."""
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return runner.run(TokenArrays(np.ones_like(mask), mask, np.zeros_like(mask)), all_cores=all_cores)


def _around(mean: int, rows: int) -> list[int]:
    """So many lengths, an even number, from three quarters to five quarters of their mean."""
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
    """Least squares with coefficients of at least 0, by dropping the most negative one until none is left."""
    kept = list(range(terms.shape[1]))
    while True:
        fitted, *_ = np.linalg.lstsq(terms[:, kept], target, rcond=None)
        if len(kept) == 1 or fitted.min() >= 0:
            coefficients = np.zeros(terms.shape[1])
            coefficients[kept] = np.maximum(fitted, 0)
            return coefficients
        del kept[int(fitted.argmin())]
