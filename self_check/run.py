"""Runs all checks, one after the other, and collects them in one document for JSON."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from crossrank.benchmarks.harness.environment import (
    ArtifactDescription,
    RunDescription,
    describe_artifact,
    describe_run,
)
from crossrank.benchmarks.harness.gpu import GpuDescription, OnnxruntimeDescription, describe_gpu, describe_onnxruntime
from crossrank.benchmarks.harness.json_text import json_of
from crossrank.engine.runtime.providers import choose_provider
from crossrank.errors import ProviderError
from crossrank.models.artifact import Artifact
from crossrank.resolve import resolve_model
from crossrank.self_check.capture import CAPTURE, NEW_TEXTS, check_capture, check_new_texts
from crossrank.self_check.inspection import inspect_graph
from crossrank.self_check.memory import NAME as MEMORY
from crossrank.self_check.memory import check_memory
from crossrank.self_check.pair_independence import BATCHING, CALLERS, check_batching, check_callers
from crossrank.self_check.parity import NAME as PARITY
from crossrank.self_check.parity import check_parity
from crossrank.self_check.placement import OPERATORS, PLACEMENT, check_placement, list_operators
from crossrank.self_check.result import CheckResult
from crossrank.self_check.subject import Check, Subject, opener
from crossrank.self_check.texts import CheckTexts

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossrank.models.manifest import Precision, Provider, ProviderChoice

SCHEMA_VERSION = 1
DEFAULT_CALLS: dict[Provider, int] = {"cpu": 500, "cuda": 10_000}
"""Calls of the memory check."""
PROVIDER = "provider"


@dataclass(frozen=True, kw_only=True)
class SelfCheckReport(RunDescription):
    """What was checked and found.

    Attributes:
        onnxruntime: the installed one.
        model: as it was given.
        asked_provider: likewise.
        provider: that was checked; None where it did not start.
        provider_reason: why it was chosen.
        artifact: of the model.
        gpu: before the checks; None on the CPU.
        gpu_after: after them.
        results: of the checks.
    """

    onnxruntime: OnnxruntimeDescription
    model: str
    asked_provider: ProviderChoice
    provider: Provider | None = None
    provider_reason: str | None = None
    artifact: ArtifactDescription | None = None
    gpu: GpuDescription | None = None
    gpu_after: GpuDescription | None = None
    results: tuple[CheckResult, ...] = ()

    @property
    def failed(self) -> int:
        """How many checks failed."""
        return sum(result.passed is False for result in self.results)

    def to_json(self) -> str:
        """The report as a file to attach to a bug report."""
        results = [{**vars(result), "verdict": result.verdict} for result in self.results]
        return json_of(
            {"schema": SCHEMA_VERSION, "passed": not self.failed, **vars(self), "results": results}, indent=2
        )


def run_self_check(
    model: str = "default",
    *,
    provider: ProviderChoice = "auto",
    device: int = 0,
    calls: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> SelfCheckReport:
    """Check the engine on this machine.

    A provider that does not start is a failed check, not an error, so that there is a report to attach to a bug.

    Args:
        model: as `crossrank.Reranker` takes it.
        provider: what to check.
        device: CUDA device id.
        calls: of the memory check; None takes the provider's default.
        progress: called with each step as it begins.

    Raises:
        CrossrankError: the model cannot be used, or onnxruntime is not installed.
    """
    report = SelfCheckReport(
        **vars(describe_run()), onnxruntime=describe_onnxruntime(), model=model, asked_provider=provider
    )
    progress("starting the provider")
    try:
        chosen = choose_provider(provider, (device,))
    except ProviderError as error:
        return replace(report, gpu=describe_gpu(device), results=(CheckResult(PROVIDER, False, str(error)),))
    artifact = Artifact.open(resolve_model(model, provider=chosen.provider))
    artifact.verify()
    on_gpu = chosen.provider == "cuda"
    report = replace(
        report,
        provider=chosen.provider,
        provider_reason=chosen.reason,
        gpu=describe_gpu(device) if on_gpu else None,
        artifact=describe_artifact(artifact),
    )
    texts = CheckTexts(artifact)
    subject = Subject(artifact, chosen.provider, device, texts, opener(artifact, chosen.provider, device))
    started = CheckResult(PROVIDER, True, f"{chosen.provider} ({chosen.reason})")
    results = (started, *run_checks(subject, calls=calls, progress=progress))
    return replace(report, results=results, gpu_after=describe_gpu(device) if on_gpu else None)


def run_checks(
    subject: Subject, *, calls: int | None = None, progress: Callable[[str], None] = lambda _: None
) -> list[CheckResult]:
    """Run every check of a subject, for each precision that its provider can run.

    A check that raises an error has failed; the report has its traceback.

    Args:
        subject: what is checked.
        calls: of the memory check, which runs once, with the precision that "auto" chooses; None takes the default.
        progress: called with each step as it begins.
    """
    results: list[CheckResult] = []

    def add(name: str, precision: Precision, check: Callable[[], CheckResult]) -> None:
        progress(f"{name}, {precision}")
        results.append(_guarded(name, precision, check))

    for precision in subject.precisions():
        for name, check in _PER_PRECISION.items():
            add(name, precision, lambda: check(subject, precision))  # noqa: B023  called before the next
        results.extend(_inspected(subject, precision, progress))
    count = calls or DEFAULT_CALLS[subject.provider]
    default = subject.graph("auto").precision
    add(MEMORY, default, lambda: check_memory(subject, default, count, progress=progress))
    return results


_PER_PRECISION: dict[str, Check] = {
    PARITY: check_parity,
    BATCHING: check_batching,
    CAPTURE: check_capture,
    NEW_TEXTS: check_new_texts,
    CALLERS: check_callers,
}


def _inspected(subject: Subject, precision: Precision, progress: Callable[[str], None]) -> list[CheckResult]:
    """Placement and operators, both from one profiled run."""
    progress(f"{PLACEMENT}, {precision}")
    operators = CheckResult(OPERATORS, None, "the graph could not be inspected", {}, precision)

    def inspect_and_check() -> CheckResult:
        nonlocal operators
        inspection = inspect_graph(subject, precision)
        operators = list_operators(inspection, precision)
        return check_placement(inspection, subject.provider, precision)

    placement = _guarded(PLACEMENT, precision, inspect_and_check)
    return [placement, operators]


def _guarded(name: str, precision: Precision, check: Callable[[], CheckResult]) -> CheckResult:
    started = time.perf_counter()
    try:
        result = check()
    except Exception as error:  # the report must say which check broke, and why
        detail = f"{type(error).__name__}: {error}"
        result = CheckResult(name, False, detail, {"traceback": traceback.format_exc()}, precision)
    return replace(result, seconds=time.perf_counter() - started)
