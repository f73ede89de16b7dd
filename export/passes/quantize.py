"""Int8 for the CPU provider: products with constant matrices in eight bits, embedding tables too.

A pair's score must not depend on its company, and the ranking must stay that of float32. Scales that onnxruntime takes
from a whole run do neither, so they are fixed beforehand on calibration pairs, or taken from each row by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.fidelity import kendall_tau
from crossrank.export.passes.base import PassResult
from crossrank.export.passes.quantize_calibration import observe, score
from crossrank.export.passes.quantize_numbers import through_uint8
from crossrank.export.passes.quantize_rewrite import Rewriter
from crossrank.export.passes.quantize_scheme import round_weight, row_scheme, static_scheme
from crossrank.export.passes.quantize_sites import find_sites
from crossrank.models.manifest import PassRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from crossrank.export.passes.quantize_calibration import Activation
    from crossrank.export.passes.quantize_scheme import Scheme
    from crossrank.export.passes.quantize_sites import Site

NAME = "int8"

_SENSITIVITY_PAIRS = 48


@dataclass(frozen=True)
class Int8Options:
    """Choices of the int8 pass.

    Attributes:
        embeddings: store embedding tables as int8 rows with a scale each.
        smooth: move outlying channels of activations into the weights.
        by_row: give rows of feed-forward activations a scale each.
        compensate: round weights so that later ones make up for what earlier ones lose.
        min_kendall_tau: least rank correlation with float32 over the calibration pairs; below it matrices stay in
            float32, the most sensitive first.
        max_float_share: most of the weights, as a share, that the bound may leave in float32.
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
            taken from each run, which is less faithful, and only one pair a run keeps scores apart.
        options: choices; the defaults serve.

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
    result, kept, tau = quantizer.bounded()
    found = f"scales fixed on {len(calibration)} pairs or taken by row, Kendall tau {tau:.3f} on them"
    if kept:
        found += f"; {len(kept)} most sensitive left in float32"
    return PassResult(result, PassRecord(name=NAME, changed=True, detail=quantizer.detail(found)))


class _Quantizer:
    """One graph's way to int8; holds what all its variants share."""

    def __init__(
        self,
        model: onnx.ModelProto,
        calibration: Sequence[Mapping[str, NDArray[np.integer[Any]]]],
        options: Int8Options,
    ) -> None:
        self.model, self.pairs, self.options = model, calibration, options
        rewriter = Rewriter(model)
        self.arrays = rewriter.arrays
        self.sites = find_sites(model, self.arrays)
        self.single: list[Site] = []
        self._rounded: dict[str, tuple[Scheme, NDArray[np.int8], NDArray[np.float32]]] = {}

    def rewriter(self) -> Rewriter:
        return Rewriter(self.model)

    def detail(self, found: str) -> str:
        counted = f"{len(self.sites) - len(self.single)} products in int8"
        if self.single:
            counted += f", {len(self.single)} for one token in float32"
        return f"{counted}; {found}"

    def calibrate(self) -> None:
        """Choose a scheme for every activation and round every matrix."""
        names = list(dict.fromkeys(site.input for site in self.sites))
        channels = {site.input: self._matrix(site).shape[0] for site in self.sites}
        seen = observe(self.model, names, self.pairs, sum(channels.values()))
        self.single = [site for site in self.sites if seen[site.input].one_row_a_pair]
        for name in names:
            readers = [site for site in self.sites if site.input == name and site not in self.single]
            if not readers or not np.all(np.isfinite(seen[name].rows)):
                continue
            scheme = self._choose(seen[name], readers)
            for site in readers:
                integers, scales = round_weight(
                    self._matrix(site), scheme, seen[name], compensate=self.options.compensate
                )
                self._rounded[site.name] = (scheme, integers, scales)
            del seen[name]

    def build(self, kept: Collection[str], only: str = "") -> onnx.ModelProto:
        """Make the graph.

        Args:
            kept: names of the sites that stay in float32.
            only: quantize nothing but this site.
        """
        rewriter = self.rewriter()
        single = {site.name for site in self.single}
        for site in self.sites:
            if site.name in kept or site.name in single or (only and site.name != only):
                continue
            if site.name in self._rounded:
                rewriter.quantize(site, *self._rounded[site.name])
            else:
                rewriter.quantize_dynamically(site)
        if not only:
            for site in self.single:
                rewriter.store_in_eight_bits(site.weight, axis=1 if site.transposed else 0)
            if self.options.embeddings:
                rewriter.quantize_tables()
        return rewriter.finish()

    def bounded(self) -> tuple[onnx.ModelProto, tuple[str, ...], float]:
        """Make the graph that keeps the ranking, with as little float32 as that takes."""
        exact = score(self.model, self.pairs)
        result = self.build(())
        tau = kendall_tau(exact, score(result, self.pairs))
        if tau >= self.options.min_kendall_tau:
            return result, (), tau
        some = self.pairs[:: max(1, len(self.pairs) // _SENSITIVITY_PAIRS)]
        expected = score(self.model, some)
        candidates = [site for site in self.sites if site.name in self._rounded]
        damage = {
            site.name: float(np.mean((score(self.build((), only=site.name), some) - expected) ** 2))
            for site in candidates
        }
        total = sum(self.arrays[site.weight].size for site in self.sites)
        kept: tuple[str, ...] = ()
        size = 0
        for site in sorted(candidates, key=lambda site: (-damage[site.name], site.name)):
            size += self.arrays[site.weight].size
            if size > self.options.max_float_share * total:
                break
            kept = (*kept, site.name)
            result = self.build(kept)
            tau = kendall_tau(exact, score(result, self.pairs))
            if tau >= self.options.min_kendall_tau:
                break
        return result, kept, tau

    def _choose(self, seen: Activation, readers: Sequence[Site]) -> Scheme:
        """By row where that is cheap (the product is narrower than what it reads) and loses less."""
        weight = np.concatenate([self._matrix(site) for site in readers], axis=1)
        static = static_scheme(seen, weight, smooth=self.options.smooth)
        if not self.options.by_row or any(site.kind != "linear" for site in readers):
            return static
        if weight.shape[0] <= weight.shape[1]:
            return static
        by_row = row_scheme(seen)
        return min((static, by_row), key=lambda scheme: _loss(scheme, seen, weight))

    def _matrix(self, site: Site) -> NDArray[np.float32]:
        weight: NDArray[np.float32] = self.arrays[site.weight]
        return np.ascontiguousarray(weight.T) if site.transposed else weight


def _loss(scheme: Scheme, seen: Activation, weight: NDArray[np.float32]) -> float:
    """Mean square error of the product, activation and matrix rounded."""
    rows = seen.rows[::8]
    prepared = scheme.prepared(rows)
    integers, scales = round_weight(weight, scheme, seen, compensate=False)
    product = through_uint8(prepared, scheme.scale, scheme.zero_point) @ (integers * scales)
    if scheme.by_row:
        largest = (np.abs(rows) if scheme.signed else rows).max(axis=1, keepdims=True)
        product = product * np.maximum(largest, scheme.floor)
    return float(np.mean((product - rows @ weight) ** 2))
