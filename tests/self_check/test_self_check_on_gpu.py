"""Checks of CUDA graphs, and all checks with the runner for GPUs, which works on the CPU's memory here."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from faulty_engine import with_fault
from pretend_gpu import pretend_gpu

from crossrank.engine.runtime.cuda.grid_runner import GridRunner
from crossrank.self_check.capture import check_capture, check_new_texts
from crossrank.self_check.pair_independence import check_batching, check_callers
from crossrank.self_check.parity import check_parity
from crossrank.self_check.subject import opener


@pytest.fixture
def on_gpu(subject, monkeypatch):
    """A function that puts the subject on a simulated GPU: the engine runs its code for CUDA, on the CPU's memory."""

    def put(runner=GridRunner):
        pretend_gpu(monkeypatch, runner)
        return dataclasses.replace(subject, provider="cuda", open=opener(subject.artifact, "cuda", 0))

    return put


def test_without_cuda_there_is_nothing_to_capture(subject):
    result = check_capture(subject, "fp32")
    assert result.verdict == "n.a."
    assert "no CUDA graphs on provider 'cpu'" in result.detail


@pytest.mark.parametrize(
    ("fault", "passed", "differ"),
    [
        (lambda engine, documents, scores: scores, True, 0),
        (lambda engine, documents, scores: scores + np.float32(0.1 * engine.captured), False, 0),
        (lambda engine, documents, scores: np.roll(scores, int(engine.captured)), False, 0),
        (lambda engine, documents, scores: scores + np.float32(1e-6 * (engine.calls == 2)), False, 1),
    ],
    ids=["right", "captured scores shifted", "captured rows moved", "one repeat differs"],
)
def test_captured_runs_must_score_as_uncaptured_ones_and_repeat_to_the_bit(subject, fault, passed, differ):
    result = check_capture(with_fault(subject, fault, provider="cuda"), "fp32")
    assert result.passed is passed, result.detail
    assert result.figures["repeats_that_differ"] == differ


@pytest.mark.parametrize("state", ["not captured: a Loop is in the way", "0 of 61 shapes captured", "off"])
def test_where_nothing_was_captured_the_check_fails_instead_of_comparing_uncaptured_runs(subject, state):
    on_cuda = with_fault(subject, lambda engine, documents, scores: scores, provider="cuda")
    open_engine = on_cuda.open

    def open_with_state(precision, *, cuda_graphs):
        engine = open_engine(precision, cuda_graphs=cuda_graphs)
        engine.info = lambda: SimpleNamespace(cuda_graphs=state)
        return engine

    result = check_capture(dataclasses.replace(on_cuda, open=open_with_state), "fp32")
    assert result.passed is False
    assert state in result.detail


@pytest.mark.parametrize("check", [check_parity, check_batching, check_capture, check_new_texts, check_callers])
def test_the_engines_runner_for_gpus_passes(on_gpu, check):
    result = check(on_gpu(), "fp16")
    assert result.verdict == "PASS", result.detail
    if check is check_capture:
        assert "shapes captured" in result.figures["captured"]
        assert result.figures["uncaptured"] == "off"


class ReplaysOldInputs(GridRunner):
    """What stale buffers would do: every run of a shape gives the scores of its first one."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.first = {}

    def run(self, arrays):
        shape = self.grid.padded(*arrays.input_ids.shape)
        result = self.first.setdefault(shape, super().run(arrays))
        return result._replace(outputs=np.resize(result.outputs, (len(arrays.input_ids), result.outputs.shape[1])))


class LosesRows(GridRunner):
    """Rows come back in another order when they are captured."""

    def run(self, arrays):
        result = super().run(arrays)
        return result._replace(outputs=result.outputs[::-1].copy()) if self.capture else result


@pytest.mark.parametrize(
    ("runner", "check"),
    [
        (ReplaysOldInputs, check_new_texts),
        (ReplaysOldInputs, check_batching),
        (LosesRows, check_batching),
        (LosesRows, check_capture),
    ],
)
def test_a_runner_with_stale_buffers_or_moved_rows_fails(on_gpu, runner, check):
    result = check(on_gpu(runner), "fp16")
    assert result.passed is False, result.detail
