"""What runs the batches of a reranker: sessions on the processor's cores, or one on each GPU."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from crossrank.engine.device_pool import DevicePool
from crossrank.engine.executor import Executor
from crossrank.engine.grid_runner import GridRunner

if TYPE_CHECKING:
    from pathlib import Path

    from crossrank.engine.config import RerankerConfig
    from crossrank.engine.executor import Runner
    from crossrank.engine.shape_grid import ShapeGrid
    from crossrank.models.manifest import Manifest


def make_runner(
    path: Path, manifest: Manifest, config: RerankerConfig, *, grid: ShapeGrid | None, threads: int, exact: bool
) -> Runner:
    """Load a graph to run it.

    Args:
        path: the verified ONNX file.
        manifest: of its artifact.
        config: says which GPUs, and how.
        grid: the shapes of runs on GPUs; None for the processor's cores.
        threads: cores.
        exact: whether scores must be the same to the last bit on one core and on all.

    Raises:
        ArtifactError: onnxruntime refuses the graph.
        ProviderError: onnxruntime placed it elsewhere.
    """
    if grid is None:
        return Executor(path, manifest, threads=threads, exact=exact)
    load = partial(
        GridRunner, path, manifest, grid=grid, memory_limit=config.gpu_memory_limit, capture=config.cuda_graphs
    )
    return DevicePool([load(device=device) for device in config.devices or (0,)], manifest.num_labels)
