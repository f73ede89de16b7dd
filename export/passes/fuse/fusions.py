"""Fuses operators for an execution provider, with onnxruntime's optimizer for transformers.

Which fusions are on was decided by measurements; the figures are in docs/graphs.md.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.export.graph.tools import count_operators, remove_dead, replace
from crossrank.export.passes.base import PassResult
from crossrank.export.passes.fuse.attention import fuse_attention
from crossrank.export.passes.fuse.fold import fold_constants, fold_scales
from crossrank.models.manifest import PassRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from crossrank.models.manifest import Architecture, Provider

NAME = "fuse"

_FUSED = (
    "EmbedLayerNormalization",
    "Attention",
    "MultiHeadAttention",
    "SkipLayerNormalization",
    "LayerNormalization",
    "BiasGelu",
    "Gelu",
)


def fuse(model: onnx.ModelProto, *, architecture: Architecture, provider: Provider) -> PassResult:
    """Fuse the operators that the provider runs faster fused.

    Attention becomes onnxruntime's `Attention` with each pair's length as its mask, which is correct only for
    right-padded batches. The pruned last layer, which works on one token, keeps its plain operators.

    Args:
        model: graph in standard operators, pruned or not; not changed.
        architecture: number of heads and hidden size (0: inferred from the graph).
        provider: execution provider the graph is for.

    Returns:
        The fused graph. The same input gives the same bytes.
    """
    from onnxruntime.transformers import fusion_options, optimizer

    options = fusion_options.FusionOptions("bert")
    options.attention_mask_format = fusion_options.AttentionMaskFormat.MaskIndexEnd
    # tanh instead of erf: faster, not exact.
    options.enable_gelu_approximation = False
    # On CPU the fused kernel for Add + LayerNormalization is slower than the two operators.
    options.enable_skip_layer_norm = provider == "cuda"
    options.enable_bias_skip_layer_norm = provider == "cuda"
    # No gain on CPU, and embedding tables can be quantized only if a plain Gather reads them.
    options.enable_embed_layer_norm = provider == "cuda"
    folded = fuse_attention(fold_constants(model))
    if provider == "cuda":
        _give_norms_a_bias(folded)
    with _silence():
        fused = optimizer.optimize_by_fusion(
            folded,
            model_type="bert",
            num_heads=architecture.num_attention_heads,
            hidden_size=architecture.hidden_size,
            optimization_options=options,
        )
        fused.topological_sort(is_deterministic=True)
    result: onnx.ModelProto = fused.model
    remove_dead(result.graph)
    fold_scales(result)
    del result.graph.value_info[:]
    counts = count_operators(result.graph)
    fused_operators = ", ".join(f"{counts[name]} {name}" for name in _FUSED if counts[name])
    detail = f"for {provider}: {fused_operators}; {len(result.graph.node)} of {len(model.graph.node)} nodes left"
    return PassResult(result, PassRecord(name=NAME, changed=True, detail=detail))


def _give_norms_a_bias(model: onnx.ModelProto) -> None:
    """Add a bias of zeros to norms without one, which onnxruntime's fusion for CUDA fails on. Changes it in place."""
    import numpy as np
    from onnx import numpy_helper

    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        scale = node.input[1] if node.op_type == "LayerNormalization" else ""
        if scale in sizes and not any(node.input[2:]):
            name = f"{node.output[0]}/bias"
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(sizes[scale], np.float32), name))
            replace(node.input, [*node.input[:2], name])


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep onnxruntime's optimizer from printing and logging; log levels are restored afterwards."""
    folder = str(Path("onnxruntime") / "transformers")
    loggers = {
        logger
        for module in list(sys.modules.values())
        if folder in (getattr(module, "__file__", None) or "")
        and isinstance(logger := getattr(module, "logger", None), logging.Logger)
    }
    levels = [(logger, logger.level) for logger in loggers]
    for logger, _ in levels:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)
