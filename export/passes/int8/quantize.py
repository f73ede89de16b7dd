"""The int8 pass for the CPU provider: products with constant matrices and embedding tables in eight bits.

A pair's score must not depend on the other pairs of its batch, and the ranking must stay close to that of float32.
Scales that onnxruntime computes over a whole batch violate both, so scales are fixed on calibration pairs, or computed
per row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.passes.base import PassResult
from crossrank.export.passes.int8.attention import contexts_of_values, drop_mask, split_attention
from crossrank.export.passes.int8.calibration import observe, score
from crossrank.export.passes.int8.products import find_sites
from crossrank.export.passes.int8.rewrite import Rewriter
from crossrank.export.passes.int8.scheme import choose_scheme, round_weight, row_scheme
from crossrank.export.verify.fidelity import kendall_tau
from crossrank.models.manifest import PassRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from crossrank.export.passes.int8.products import Site
    from crossrank.export.passes.int8.scheme import RoundedWeight, Scheme

NAME = "int8"

_SENSITIVITY_PAIRS = 48


@dataclass(frozen=True)
class Int8Options:
    """Options of the int8 pass.

    Attributes:
        embeddings: store embedding tables in int8, with one scale per row.
        smooth: shift an activation's channels, and scale down outlying ones by scaling up their weights.
        by_row: quantize feed-forward activations with one scale per row.
        compensate: let the rounding of later weights correct the error of earlier ones.
        min_kendall_tau: lowest rank correlation with float32 over the calibration pairs; below it, matrices go back to
            float32, the most sensitive first.
        max_float_share: largest share of the weights that may go back to float32 for that.
    """

    embeddings: bool = True
    smooth: bool = True
    by_row: bool = True
    compensate: bool = True
    min_kendall_tau: float = 0.95
    max_float_share: float = 0.25


def quantize_int8(
    model: onnx.ModelProto,
    *,
    calibration: Sequence[Mapping[str, NDArray[np.integer[Any]]]] = (),
    options: Int8Options | None = None,
) -> PassResult:
    """Quantize a float32 graph for the CPU provider.

    Args:
        model: the float32 graph, fused and pruned or not. It is not changed.
        calibration: feeds of one pair each ([1, length] arrays by input name), unpadded. Without any, scales are
            computed over each batch, which is less accurate, and makes scores independent only in batches of one pair.
        options: options of the pass; None for the defaults.

    Returns:
        The int8 graph and the record of what was quantized. The same input and versions give the same bytes.
    """
    options = options or Int8Options()
    quantizer = _Quantizer(model, calibration, options)
    if not quantizer.sites and not (options.embeddings and quantizer.rewriter().quantize_tables()):
        return PassResult(model, PassRecord(name=NAME, changed=False, detail="no matrix to quantize"))
    if not calibration:
        return PassResult(
            quantizer.build(()), PassRecord(name=NAME, changed=True, detail=quantizer.detail("scales of each run"))
        )
    quantizer.calibrate()
    result, in_float32, tau = quantizer.bounded()
    summary = f"scales fixed on {len(calibration)} pairs or taken by row, Kendall tau {tau:.3f} on them"
    if in_float32:
        summary += f"; {len(in_float32)} most sensitive left in float32"
    return PassResult(result, PassRecord(name=NAME, changed=True, detail=quantizer.detail(summary)))


class _Quantizer:
    """Builds int8 variants of one graph from the same calibration."""

    def __init__(
        self,
        model: onnx.ModelProto,
        calibration: Sequence[Mapping[str, NDArray[np.integer[Any]]]],
        options: Int8Options,
    ) -> None:
        self.model, self.pairs, self.options = split_attention(model), calibration, options
        rewriter = Rewriter(self.model)
        self.arrays = rewriter.arrays
        self.sites = find_sites(self.model, self.arrays)
        self.single: list[Site] = []
        self._rounded: dict[str, tuple[Scheme, RoundedWeight]] = {}
        self._contexts = contexts_of_values(self.model, self.sites)

    def rewriter(self) -> Rewriter:
        return Rewriter(self.model)

    def detail(self, summary: str) -> str:
        counted = f"{len(self.sites) - len(self.single)} products in int8"
        if self.single:
            counted += f", {len(self.single)} for one token in float32"
        return f"{counted}; {summary}"

    def calibrate(self) -> None:
        """Choose a scheme for every activation and round every matrix."""
        names = list(dict.fromkeys(site.input for site in self.sites))
        channels = {site.input: self._matrix(site).shape[0] for site in self.sites}
        observed = observe(self.model, names, self.pairs, sum(channels.values()))
        self.single = [site for site in self.sites if observed[site.input].one_row_a_pair]
        for name in names:
            readers = [site for site in self.sites if site.input == name and site not in self.single]
            if not readers or not np.all(np.isfinite(observed[name].rows)):
                continue
            weight = np.concatenate([self._matrix(site) for site in readers], axis=1)
            # Scales per row add operators on the activation, which pays off only if the product has fewer columns.
            narrows = weight.shape[0] > weight.shape[1]
            if self.options.by_row and narrows:
                scheme = row_scheme(observed[name])
            else:
                scheme = choose_scheme(observed[name], weight, smooth=self.options.smooth)
            for site in readers:
                rounded = round_weight(self._matrix(site), scheme, observed[name], compensate=self.options.compensate)
                self._rounded[site.name] = (scheme, rounded)
            del observed[name]

    def build(self, in_float32: Collection[str], only: str = "") -> onnx.ModelProto:
        """Build the int8 graph.

        Args:
            in_float32: names of the products that stay in float32.
            only: name of the one product to quantize; "" for all.
        """
        rewriter = self.rewriter()
        left_out = {*in_float32, *(site.name for site in self.single)}
        sites = [site for site in self.sites if site.name not in left_out and (not only or site.name == only)]
        static = {site.name for site in sites if site.name in self._rounded}
        contexts = {
            value: context for value, context in self._contexts.items() if {value, *self._readers(context)} <= static
        }
        prepared = set(contexts.values())
        for site in sites:
            if site.name not in static:
                rewriter.quantize_dynamically(site)
                continue
            context = contexts.get(site.name)
            prepares = self._rounded[self._readers(context)[0]][0] if context else None
            scheme, rounded = self._rounded[site.name]
            rewriter.quantize(site, scheme, rounded, prepared=site.input in prepared, prepares=prepares)
        if not only:
            for site in self.single:
                rewriter.store_in_eight_bits(site.weight, axis=1 if site.transposed else 0)
            if self.options.embeddings:
                rewriter.quantize_tables()
        return drop_mask(rewriter.finish())

    def bounded(self) -> tuple[onnx.ModelProto, tuple[str, ...], float]:
        """Build the graph that reaches the bound on Kendall tau, with as few products in float32 as possible.

        Returns:
            The graph, the names of the products left in float32, and Kendall tau on the calibration pairs.
        """
        exact = score(self.model, self.pairs)
        result = self.build(())
        tau = kendall_tau(exact, score(result, self.pairs))
        if tau >= self.options.min_kendall_tau:
            return result, (), tau
        pairs = self.pairs[:: max(1, len(self.pairs) // _SENSITIVITY_PAIRS)]
        expected = score(self.model, pairs)
        candidates = [site for site in self.sites if site.name in self._rounded]
        damage = {
            site.name: float(np.mean((score(self.build((), only=site.name), pairs) - expected) ** 2))
            for site in candidates
        }
        total = sum(self.arrays[site.weight].size for site in self.sites)
        in_float32: tuple[str, ...] = ()
        size = 0
        for site in sorted(candidates, key=lambda site: (-damage[site.name], site.name)):
            size += self.arrays[site.weight].size
            if size > self.options.max_float_share * total:
                break
            in_float32 = (*in_float32, site.name)
            result = self.build(in_float32)
            tau = kendall_tau(exact, score(result, self.pairs))
            if tau >= self.options.min_kendall_tau:
                break
        return result, in_float32, tau

    def _readers(self, activation: str) -> list[str]:
        return [site.name for site in self.sites if site.input == activation]

    def _matrix(self, site: Site) -> NDArray[np.float32]:
        weight: NDArray[np.float32] = self.arrays[site.weight]
        return np.ascontiguousarray(weight.T) if site.transposed else weight
