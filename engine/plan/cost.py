"""Predicted time of a run, from its shape.

A transformer's run of `b` pairs padded to `n` tokens does work proportional to `b n` (matrix products with weights)
and to `b n^2` (attention), on top of a fixed cost per run and a small cost per row. Four coefficients describe that
well enough to compare groupings, which is all the planner needs. Two more numbers say how much faster a run is on all
cores, and how much slower a packed run is when its pairs differ in length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, overload

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from crossrank.models.manifest import Architecture, Precision, Provider

    Integers: TypeAlias = npt.NDArray[np.int64]
    Floats: TypeAlias = npt.NDArray[np.float64]

_SECONDS_PER_MAC: dict[Provider, float] = {"cpu": 1 / 60e9, "cuda": 1 / 20e12}
"""Assumed rate of one core in float32 and of one GPU in float16. Only the ratio to the fixed costs matters for a plan.
The rate for CUDA is an estimate, not run on a GPU yet."""
_GPU_RUN_SECONDS = 2e-4
"""Fixed cost of a run on a GPU: an estimate, not run on a GPU yet."""
_CORE_LAYER_SECONDS = 2e-4
"""Fixed cost of a layer in a run on a core, besides its weights."""
_WEIGHT_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
_WEIGHT_BYTES_A_SECOND = 16e9
_ROW_SECONDS: dict[Provider, float] = {"cpu": 2e-5, "cuda": 1e-6}


@dataclass(frozen=True)
class CostModel:
    """Coefficients of the predicted time of a run, in seconds.

    Attributes:
        run: fixed cost of a run.
        row: cost of a pair, whatever its length.
        token: cost of a padded token.
        token_squared: cost of a padded token times the padded length.
        operator_efficiency: share of perfect speed-up that threads inside operators reach on all cores.
        packing: share by which a packed run of several lengths takes longer, because attention has to split its
            tokens into pairs and concatenate them again.
    """

    run: float
    row: float
    token: float
    token_squared: float
    operator_efficiency: float = 0.8
    packing: float = 0.04

    @classmethod
    def of(cls, architecture: Architecture, provider: Provider = "cpu", precision: Precision = "fp32") -> CostModel:
        """A default for a model's dimensions: multiply-accumulates at a typical rate, weights at memory bandwidth.

        A layer has `4 h^2 + 2 h i` multiply-accumulates a token in its matrices (h hidden, i intermediate size) and
        `2 h n` in its attention over n tokens. A core's caches hold few layers, so every run reads the matrices again.
        The rates were chosen to match one machine (docs/decisions.md); `calibrate` fits them to this one.
        """
        hidden = architecture.hidden_size or 384
        intermediate = architecture.intermediate_size or 4 * hidden
        layers = architecture.num_hidden_layers or 6
        weights = layers * (4 * hidden**2 + 2 * hidden * intermediate)
        run = _GPU_RUN_SECONDS
        if provider == "cpu":
            run = layers * _CORE_LAYER_SECONDS + weights * _WEIGHT_BYTES[precision] / _WEIGHT_BYTES_A_SECOND
        return cls(
            run=run,
            row=_ROW_SECONDS[provider],
            token=weights * _SECONDS_PER_MAC[provider],
            token_squared=layers * 2 * hidden * _SECONDS_PER_MAC[provider],
        )

    @overload
    def seconds(self, rows: int, length: float) -> float: ...

    @overload
    def seconds(self, rows: Integers | int, length: Integers | int) -> Floats: ...

    def seconds(self, rows: Any, length: Any) -> Any:
        """Predicted seconds of a run of `rows` pairs padded to `length` tokens; arrays broadcast."""
        return self.run + rows * (self.row + length * (self.token + self.token_squared * length))
