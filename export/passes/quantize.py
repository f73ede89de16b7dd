"""Int8 for the CPU provider: products with constant matrices in eight bits, embedding tables too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrank.export.passes.base import PassResult
from crossrank.export.passes.quantize_rewrite import Rewriter
from crossrank.models.manifest import PassRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Int8Options:
    """Choices of the int8 pass.

    Attributes:
        embeddings: store embedding tables as int8 rows with a scale each.
    """

    embeddings: bool = True


def quantize_int8(
    model: onnx.ModelProto,
    *,
    calibration: Sequence[Mapping[str, NDArray[np.int64]]] = (),  # noqa: ARG001
    options: Int8Options | None = None,
) -> PassResult:
    """Quantize a float32 graph for the CPU provider.

    Args:
        model: the float32 graph, fused and pruned or not. It is not changed.
        calibration: feeds of one pair each ([1, length] arrays by input name), unpadded, candidates of a
            query side by side.
        options: choices; the defaults serve.

    Returns:
        The int8 graph and the record of what was quantized.
    """
    options = options or Int8Options()
    rewriter = Rewriter(model)
    sites = rewriter.quantize_products()
    tables = rewriter.quantize_tables() if options.embeddings else []
    if not sites and not tables:
        return PassResult(model, PassRecord(name="int8", changed=False, detail="no matrix to quantize"))
    detail = f"{len(sites)} products and {len(tables)} tables in int8"
    return PassResult(rewriter.finish(), PassRecord(name="int8", changed=True, detail=detail))
