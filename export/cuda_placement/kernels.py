"""Reads `cuda_kernels.toml`, the table of operators that onnxruntime's CUDA provider has kernels for."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = "cuda_kernels.toml"


@dataclass(frozen=True)
class Kernel:
    """A CUDA kernel for some versions of an operator.

    Attributes:
        first: first version of the operator that it supports.
        last: last version; None for an open range, which onnxruntime uses for the first version only.
        types: type parameter to the accepted types, with onnx's names in lower case; parameters not listed accept any.
        inputs: type parameter of each input; empty for standard operators, whose parameters the onnx package knows.
        outputs: type parameter of each output; empty for standard operators.
    """

    first: int
    last: int | None
    types: Mapping[str, frozenset[str]]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def supports(self, version: int) -> bool:
        """Whether the kernel supports a version of the operator."""
        return version == self.first or (self.last is not None and self.first <= version <= self.last)


@dataclass(frozen=True)
class KernelTable:
    """All CUDA kernels in the table.

    Attributes:
        source: file in onnxruntime's repository that the table was taken from, and its commit.
        kernels: (domain, operator) to its kernels; the standard domain is "ai.onnx".
        host_inputs: standard operator to the indices of the inputs that its kernel reads on the CPU.
    """

    source: str
    kernels: Mapping[tuple[str, str], tuple[Kernel, ...]]
    host_inputs: Mapping[str, frozenset[int]]

    def of(self, domain: str, operator: str) -> tuple[Kernel, ...]:
        """The kernels of an operator; empty if it has none."""
        return self.kernels.get((domain or "ai.onnx", operator), ())


@cache
def cuda_kernels() -> KernelTable:
    """The table that is part of the package."""
    return parse_kernels((resources.files("crossrank.export.cuda_placement") / _FILE).read_text(encoding="utf-8"))


def parse_kernels(text: str) -> KernelTable:
    """Read a table.

    Args:
        text: TOML in the format that the comment at the top of `cuda_kernels.toml` describes.

    Raises:
        ValueError: the text does not have that format.
    """
    document = tomllib.loads(text)
    source, sets, host_inputs = (document.pop(name) for name in ("source", "sets", "host_inputs"))
    kernels = {
        (domain, operator): tuple(kernel for entry in entries for kernel in _parse_entry(entry, sets))
        for domain, operators in document.items()
        for operator, entries in operators.items()
    }
    indices = {operator: frozenset(inputs) for operator, inputs in host_inputs.items()}
    return KernelTable(f"onnxruntime {source['path']}, commit {source['commit'][:8]}", kernels, indices)


def _parse_entry(entry: str, sets: Mapping[str, str]) -> list[Kernel]:
    """Kernels of one entry: ranges of versions that accept the same types."""
    head, _, signature = entry.rstrip(")").partition("(")
    inputs, _, outputs = signature.partition(">")
    ranges, types, parameter = [], {}, ""
    for word in head.split():
        name, assigned, first = word.rpartition("=")
        if assigned:
            parameter, word = name, first  # noqa: PLW2901  the rest is the parameter's first type
            types[parameter] = set[str]()
        if parameter:
            types[parameter] |= _expand(word, sets)
        else:
            ranges.append(_parse_range(word))
    frozen = {name: frozenset(members) for name, members in types.items()}
    return [Kernel(first, last, frozen, tuple(inputs.split()), tuple(outputs.split())) for first, last in ranges]


def _parse_range(word: str) -> tuple[int, int | None]:
    if word.endswith("+"):
        return int(word[:-1]), None
    first, _, last = word.partition("-")
    return int(first), int(last or first)


def _expand(word: str, sets: Mapping[str, str]) -> set[str]:
    """A type itself, or the types of a set, which may contain other sets."""
    if word not in sets:
        return {word}
    return {name for member in sets[word].split() for name in _expand(member, sets)}
