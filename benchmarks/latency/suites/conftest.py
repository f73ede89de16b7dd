"""Options and fixtures of the suites: `pytest benchmarks/latency/suites --benchmark-enable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crossrank.benchmarks.harness.passages import standard_library_passages
from crossrank.benchmarks.harness.workloads import TOP_KS, WorkloadMaker
from crossrank.models.artifact import Artifact
from crossrank.resolve import resolve_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossrank.benchmarks.harness.workloads import Workload

_DEFAULT_TOP_KS = (10, 100)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suites' options."""
    group = parser.getgroup("crossrank")
    group.addoption("--bench-model", default="default", help="model to measure, as Reranker takes it")
    group.addoption("--bench-full", action="store_true", help=f"every top-k of {TOP_KS}, not only {_DEFAULT_TOP_KS}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each benchmark for every top-k and length that it takes as an argument."""
    top_ks = TOP_KS if metafunc.config.getoption("--bench-full") else _DEFAULT_TOP_KS
    for name, choices in {"top_k": top_ks, "length": ("short", "middle", "long")}.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, choices)


@pytest.fixture(scope="session")
def artifact(pytestconfig: pytest.Config) -> Artifact:
    """The artifact of the model to measure."""
    return Artifact.open(resolve_model(pytestconfig.getoption("--bench-model"), provider="cpu"))


@pytest.fixture(scope="session")
def workload(artifact: Artifact) -> Callable[[str, int], Workload]:
    """A function `(length, top_k) -> Workload` on documentation text."""
    manifest = artifact.manifest
    return WorkloadMaker(
        standard_library_passages(), artifact.path(manifest.tokenizer), max_length=manifest.max_length
    ).of_length
