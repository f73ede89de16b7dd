"""Options and fixtures of the suites: `pytest benchmarks/latency/suites --benchmark-enable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crossrank.benchmarks.harness.passages import standard_library_passages
from crossrank.benchmarks.harness.workloads import TOP_KS, WorkloadMaker
from crossrank.errors import PrecisionError
from crossrank.models.artifact import Artifact
from crossrank.reranker import Reranker
from crossrank.resolve import resolve_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crossrank.benchmarks.harness.workloads import Workload

_DEFAULT_TOP_KS = (10, 100)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suites' options."""
    group = parser.getgroup("crossrank")
    group.addoption("--bench-model", default="default", help="model to measure, as Reranker takes it")
    group.addoption("--bench-full", action="store_true", help=f"every top-k of {TOP_KS}, not only {_DEFAULT_TOP_KS}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each benchmark for every top-k, length and precision that it takes as an argument."""
    top_ks = TOP_KS if metafunc.config.getoption("--bench-full") else _DEFAULT_TOP_KS
    values = {"top_k": top_ks, "length": ("short", "middle", "long"), "precision": ("fp32", "int8")}
    for name, choices in values.items():
        if name in metafunc.fixturenames:
            scope = "session" if name == "precision" else None
            metafunc.parametrize(name, choices, scope=scope)


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


@pytest.fixture(scope="session")
def reranker(artifact: Artifact, precision: str) -> Iterator[Reranker]:
    """A warm reranker; the benchmark is skipped if the artifact has no graph of the precision."""
    try:
        loaded = Reranker(artifact.folder, provider="cpu", precision=precision)
    except PrecisionError as error:
        pytest.skip(str(error))
    with loaded:
        loaded.warmup()
        yield loaded
