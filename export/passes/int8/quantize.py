"""Int8 for the CPU provider: products with constant matrices in eight bits, embedding tables too.

A pair's score must not depend on its company, and the ranking must stay that of float32. Scales that onnxruntime takes
from a whole run do neither, so they are fixed beforehand on calibration pairs, or taken from each row by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.export.passes.base import PassResult
from crossrank.export.passes.int8.attention import contexts_of_values, drop_mask, split_attention
from crossrank.export.passes.int8.calibration import observe, score
from crossrank.export.passes.int8.rewrite import Rewriter
from crossrank.export.passes.int8.scheme import choose_scheme, round_weight, row_scheme
from crossrank.export.passes.int8.sites import find_sites
from crossrank.export.verify.fidelity import kendall_tau
from crossrank.models.manifest import PassRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from crossrank.export.passes.int8.scheme import RoundedWeight, Scheme
    from crossrank.export.passes.int8.sites import Site

NAME = "int8"

_SENSITIVITY_PAIRS = 48


@dataclass(frozen=True)
class Int8Options:
    """Choices of the int8 pass.

    Attributes:
        embeddings: store embedding tables as int8 rows with a scale each.
        smooth: shift an activation's channels, and move the outlying ones into the weights.
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
        self.model, self.pairs, self.options = split_attention(model), calibration, options
        rewriter = Rewriter(self.model)
        self.arrays = rewriter.arrays
        self.sites = find_sites(self.model, self.arrays)
        self.single: list[Site] = []
        self._rounded: dict[str, tuple[Scheme, RoundedWeight]] = {}
        self._contexts = contexts_of_values(self.model, self.sites)

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
            weight = np.concatenate([self._matrix(site) for site in readers], axis=1)
            # A scale by row costs operators on the activation: worth it where the product is narrower than that.
            narrows = weight.shape[0] > weight.shape[1]
            if self.options.by_row and narrows:
                scheme = row_scheme(seen[name])
            else:
                scheme = choose_scheme(seen[name], weight, smooth=self.options.smooth)
            for site in readers:
                rounded = round_weight(self._matrix(site), scheme, seen[name], compensate=self.options.compensate)
                self._rounded[site.name] = (scheme, rounded)
            del seen[name]

    def build(self, kept: Collection[str], only: str = "") -> onnx.ModelProto:
        """Make the graph.

        Args:
            kept: names of the sites that stay in float32.
            only: quantize nothing but this site.
        """
        rewriter = self.rewriter()
        left_out = {*kept, *(site.name for site in self.single)}
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

    def _readers(self, activation: str) -> list[str]:
        return [site.name for site in self.sites if site.input == activation]

    def _matrix(self, site: Site) -> NDArray[np.float32]:
        weight: NDArray[np.float32] = self.arrays[site.weight]
        return np.ascontiguousarray(weight.T) if site.transposed else weight
