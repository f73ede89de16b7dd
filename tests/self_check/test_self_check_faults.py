"""Every check of the self-check passes on the engine, and fails on one that is wrong in the way it looks for."""

from __future__ import annotations

import dataclasses
import mmap
import time
from collections import Counter

import numpy as np
import pytest
from faulty_engine import with_fault

from crossrank.models.artifact import Artifact
from crossrank.self_check import memory
from crossrank.self_check.capture import check_new_texts
from crossrank.self_check.differences import relative_difference
from crossrank.self_check.memory import check_memory, growth
from crossrank.self_check.pair_independence import check_batching, check_callers
from crossrank.self_check.parity import check_parity
from crossrank.self_check.run import run_checks


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("check", [check_parity, check_batching, check_new_texts, check_callers])
def test_the_engine_passes(subject, check, precision):
    result = check(subject, precision)
    assert result.verdict == "PASS", result.detail
    assert result.precision == precision


@pytest.mark.parametrize(
    ("precision", "fault"),
    [
        ("fp32", lambda engine, pairs, scores: scores + 0.01),
        ("fp16", lambda engine, pairs, scores: np.roll(scores, 1)),
        ("int8", lambda engine, pairs, scores: np.full_like(scores, np.nan)),
        ("int8", lambda engine, pairs, scores: scores + np.float32(0.4)),
        ("fp32", lambda engine, pairs, scores: scores[:-1]),
    ],
    ids=["all shifted", "rows moved", "NaN", "int8 shifted", "one missing"],
)
def test_parity_fails_where_scores_differ_from_those_of_the_plain_graph(subject, precision, fault):
    result = check_parity(with_fault(subject, fault), precision)
    assert result.passed is False
    assert result.figures["to_reference"] > result.figures["tolerance"]


def test_what_another_processor_recorded_may_differ_more_than_the_same_graph_here(subject):
    graphs = [
        graph.model_copy(update={"reference_logits": tuple(value + 0.4 for value in graph.reference_logits)})
        if graph.precision == "int8"
        else graph
        for graph in subject.artifact.manifest.graphs
    ]
    manifest = subject.artifact.manifest.model_copy(update={"graphs": tuple(graphs)})
    other = dataclasses.replace(subject, artifact=Artifact(subject.artifact.folder, manifest))
    result = check_parity(other, "int8")
    assert result.passed is True, result.detail
    assert result.figures["to_reference"] == 0


def test_parity_compares_with_fp32_where_the_artifact_has_it_and_with_the_recorded_logits(subject, tiny_artifact):
    fp16 = check_parity(subject, "fp16").figures
    assert fp16["reference"].startswith("fp32.onnx")
    assert fp16["to_reference"] > 0, "fp16 is not fp32"
    assert fp16["longest"] == 64
    assert fp16["kendall_tau"] > 0.9
    int8 = check_parity(subject, "int8").figures
    assert int8["reference"].startswith("int8.onnx")
    assert 0.5 < int8["fp32"]["kendall_tau"] <= 1
    first = subject.artifact.manifest.graphs[0]
    shifted = first.model_copy(update={"reference_logits": tuple(value + 1 for value in first.reference_logits)})
    manifest = subject.artifact.manifest.model_copy(update={"graphs": (shifted,)})
    other = dataclasses.replace(subject, artifact=Artifact(subject.artifact.folder, manifest))
    assert check_parity(other, "fp32").passed is False


@pytest.mark.parametrize(
    "fault",
    [
        lambda engine, documents, scores: np.roll(scores, 1),
        lambda engine, documents, scores: np.sort(scores),
        lambda engine, documents, scores: scores + np.float32(1e-3 * len(documents)),
        lambda engine, documents, scores: (
            engine.kept.setdefault(len(documents), scores) if len(documents) > 1 else scores
        ),
    ],
    ids=["rows moved", "rows sorted", "batch size matters", "the order of the call before"],
)
def test_scores_that_depend_on_the_batch_or_land_in_another_row_fail(subject, fault):
    assert check_batching(with_fault(subject, fault), "fp32").passed is False


def test_int8_scores_may_not_differ_at_all(subject):
    fault = lambda engine, documents, scores: np.nextafter(scores, np.inf) if len(documents) > 1 else scores  # noqa: E731
    assert check_batching(with_fault(subject, fault), "int8").passed is False
    assert check_batching(with_fault(subject, fault), "fp32").passed is True


def test_equal_scores_cannot_show_a_wrong_order_so_the_check_does_not_apply(subject):
    result = check_batching(with_fault(subject, lambda engine, documents, scores: scores * 0), "fp32")
    assert result.passed is None
    assert "would not show" in result.detail


def test_callers_that_share_a_buffer_fail(subject):
    def shared(engine, documents, scores):
        engine.kept["buffer"] = scores
        time.sleep(0.01)
        return engine.kept["buffer"]

    result = check_callers(with_fault(subject, shared), "fp32")
    assert result.passed is False
    assert "threads got other scores" in result.detail


def stale(engine, documents, scores):
    """Every call of a shape gets the scores of the first one."""
    return engine.kept.setdefault(len(documents), scores)


def uncleared(engine, documents, scores):
    """Scores change where an earlier call had more rows."""
    return scores + np.float32(0.01 * (len(documents) < engine.most))


def late(engine, documents, scores):
    """Every call gets the scores of the previous one."""
    previous, engine.kept["scores"] = engine.kept.get("scores", scores), scores
    return previous


@pytest.mark.parametrize("fault", [stale, uncleared, late])
def test_data_left_over_from_earlier_texts_fails(subject, fault):
    result = check_new_texts(with_fault(subject, fault), "fp32")
    assert result.passed is False
    assert "wrong at" in result.detail


def test_constant_memory_passes_and_a_leak_fails(subject):
    leaked = []

    def leak(engine, documents, scores):
        # Pages of its own: bytes could lie in memory that earlier tests gave back.
        leaked.append(mmap.mmap(-1, 1_000_000))
        leaked[-1].write(b"x" * 1_000_000)
        return scores

    constant = check_memory(subject, "fp32", 100)
    assert constant.passed is True, constant.detail
    assert len(constant.figures["host_mib"]) == 25
    growing = check_memory(with_fault(subject, leak), "fp32", 100)
    assert growing.passed is False
    assert growing.figures["growth_mib"]["host"] > memory.ALLOWED_MIB


@pytest.mark.parametrize(("calls", "verdict"), [(1, "n.a."), (2, "PASS")])
def test_one_sample_of_memory_shows_no_growth(subject, calls, verdict):
    result = check_memory(subject, "fp32", calls)
    assert result.verdict == verdict
    assert ("two calls or more expected" in result.detail) is (calls == 1)


def test_memory_of_the_device_counts_where_it_is_reported(subject, monkeypatch):
    reported = iter(range(1000, 3000, 10))
    monkeypatch.setattr(memory, "used_mebibytes", lambda device: next(reported))
    on_cuda = dataclasses.replace(subject, provider="cuda")
    result = check_memory(on_cuda, "fp32", 50)
    assert result.passed is False
    assert result.figures["growth_mib"]["device"] == pytest.approx(200, abs=10)
    monkeypatch.setattr(memory, "used_mebibytes", lambda device: None)
    result = check_memory(on_cuda, "fp32", 50)
    assert result.passed is True
    assert "nvidia-smi does not report" in result.detail
    monkeypatch.setattr(memory, "resident_mebibytes", lambda: None)
    assert check_memory(on_cuda, "fp32", 5).passed is None


def test_growth_is_between_the_first_and_the_last_samples():
    assert growth([10.0] * 5 + [99.0] * 15 + [12.0] * 5) == 2
    assert growth([3.0]) == 0


@pytest.mark.parametrize(
    ("logits", "expected", "difference"),
    [
        ([1.0, -8.0], [1.0, -10.0], 0.2),
        ([0.5], [0.0], 0.5),
        ([], [], 0.0),
        ([1.0], [1.0, 2.0], np.inf),
        ([np.nan, 1.0], [0.0, 1.0], np.inf),
    ],
)
def test_differences_are_relative_above_one(logits, expected, difference):
    assert relative_difference(np.array(logits), np.array(expected)) == pytest.approx(difference)


def test_every_precision_is_checked_and_a_check_that_raises_has_failed(subject):
    def broken(precision, *, cuda_graphs):
        raise RuntimeError(f"no memory for {precision}")

    results = run_checks(dataclasses.replace(subject, open=broken), calls=5)
    assert Counter(result.precision for result in results) == {"fp32": 7, "fp16": 7, "int8": 8}
    verdicts = {(result.name, result.verdict) for result in results}
    assert verdicts == {
        ("parity", "FAIL"),
        ("scores in a batch", "FAIL"),
        ("captured and uncaptured", "n.a."),
        ("new texts in used shapes", "FAIL"),
        ("concurrent callers", "FAIL"),
        ("placement", "PASS"),
        ("operators", "n.a."),
        ("memory", "FAIL"),
    }
    parity = results[0]
    assert parity.detail == "RuntimeError: no memory for fp32"
    assert "Traceback" in parity.figures["traceback"]
