"""Every check of the self-check passes on the engine, and fails on one that is wrong in the way it looks for."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from pretend_gpu import pretend_gpu
from tiny_artifacts import write_artifact
from tiny_checkpoints import make_texts

from crossrank.benchmarks.passages import Passages
from crossrank.benchmarks.self_check import memory
from crossrank.benchmarks.self_check.capture import check_capture, check_new_texts
from crossrank.benchmarks.self_check.company import check_batching, check_callers
from crossrank.benchmarks.self_check.differences import relative_difference
from crossrank.benchmarks.self_check.memory import check_memory, growth
from crossrank.benchmarks.self_check.parity import check_parity
from crossrank.benchmarks.self_check.run import run_checks
from crossrank.benchmarks.self_check.subject import Subject, opener
from crossrank.benchmarks.self_check.texts import CheckTexts
from crossrank.engine.grid_runner import GridRunner
from crossrank.models.artifact import Artifact


@pytest.fixture(scope="module")
def subject(tiny_checkpoint, tiny_graphs, tmp_path_factory):
    """The tiny artifact in every precision on the CPU."""
    folder = tmp_path_factory.mktemp("checked") / "tiny"
    precisions = ("fp32", "int8", "fp16")
    artifact = Artifact.open(write_artifact(folder, tiny_checkpoint("bert"), tiny_graphs, precisions=precisions))
    texts = CheckTexts(artifact, Passages("made", "the river", tuple(make_texts(80))))
    return Subject(artifact, "cpu", 0, texts, opener(artifact, "cpu", 0))


@pytest.fixture
def on_gpu(subject, monkeypatch):
    """A function that puts the subject on a pretended GPU: the engine takes CUDA's way, on the CPU's memory."""

    def put(runner=GridRunner):
        pretend_gpu(monkeypatch, runner)
        return dataclasses.replace(subject, provider="cuda", open=opener(subject.artifact, "cuda", 0))

    return put


class Faulty:
    """A real engine whose scores a fault changes: `fault(engine, documents, scores) -> scores`."""

    def __init__(self, engine, fault, *, captured):
        self.engine, self.fault, self.captured = engine, fault, captured
        self.calls, self.most, self.kept = 0, 0, {}

    def score(self, query, documents):
        scores = self.engine.score(query, documents)
        changed = self.fault(self, documents, scores)
        self.calls += 1
        self.most = max(self.most, len(documents))
        return changed

    def score_pairs(self, pairs):
        return self.fault(self, pairs, self.engine.score_pairs(pairs))

    def info(self):
        return self.engine.info()

    def close(self):
        self.engine.close()


def with_fault(subject, fault, **changes):
    def open_engine(precision, *, cuda_graphs):
        return Faulty(subject.open(precision, cuda_graphs=cuda_graphs), fault, captured=cuda_graphs)

    return dataclasses.replace(subject, open=open_engine, **changes)


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
        ("fp32", lambda engine, pairs, scores: scores[:-1]),
    ],
    ids=["all off", "rows moved", "no numbers", "one missing"],
)
def test_other_scores_than_the_plain_graphs_are_no_parity(subject, precision, fault):
    result = check_parity(with_fault(subject, fault), precision)
    assert result.passed is False
    assert result.figures["to_reference"] > result.figures["tolerance"]


def test_parity_is_with_fp32_where_the_artifact_has_it_and_with_what_was_recorded(subject, tiny_artifact):
    found = check_parity(subject, "fp16").figures
    assert found["reference"].startswith("fp32.onnx")
    assert found["to_reference"] > 0, "fp16 is not fp32"
    assert found["longest"] == 64
    assert found["kendall_tau"] > 0.9
    int8 = check_parity(subject, "int8").figures
    assert int8["reference"].startswith("int8.onnx")
    assert 0.5 < int8["fp32"]["kendall_tau"] <= 1
    first = subject.artifact.manifest.graphs[0]
    moved = first.model_copy(update={"reference_logits": tuple(value + 1 for value in first.reference_logits)})
    manifest = subject.artifact.manifest.model_copy(update={"graphs": (moved,)})
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
    ids=["rows moved", "rows sorted", "company counts", "the order of the call before"],
)
def test_scores_that_depend_on_company_or_lose_their_row_are_found(subject, fault):
    assert check_batching(with_fault(subject, fault), "fp32").passed is False


def test_int8_may_not_move_at_all(subject):
    fault = lambda engine, documents, scores: np.nextafter(scores, np.inf) if len(documents) > 1 else scores  # noqa: E731
    assert check_batching(with_fault(subject, fault), "int8").passed is False
    assert check_batching(with_fault(subject, fault), "fp32").passed is True


def test_scores_that_are_all_alike_show_no_order(subject):
    result = check_batching(with_fault(subject, lambda engine, documents, scores: scores * 0), "fp32")
    assert result.passed is None
    assert "would not show" in result.detail


def test_callers_that_share_a_buffer_are_found(subject):
    def shared(engine, documents, scores):
        engine.kept["buffer"] = scores
        time.sleep(0.01)
        return engine.kept["buffer"]

    result = check_callers(with_fault(subject, shared), "fp32")
    assert result.passed is False
    assert "threads got other scores" in result.detail


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
    ids=["right", "captured is off", "captured rows moved", "one repeat differs"],
)
def test_captured_runs_must_score_as_uncaptured_ones_and_repeat_to_the_bit(subject, fault, passed, differ):
    result = check_capture(with_fault(subject, fault, provider="cuda"), "fp32")
    assert result.passed is passed, result.detail
    assert result.figures["repeats_that_differ"] == differ


@pytest.mark.parametrize("state", ["not captured: a Loop is in the way", "0 of 61 shapes captured", "off"])
def test_where_nothing_was_captured_the_check_says_so_instead_of_comparing_like_with_like(subject, state):
    on_cuda = with_fault(subject, lambda engine, documents, scores: scores, provider="cuda")
    open_engine = on_cuda.open

    def open_with_state(precision, *, cuda_graphs):
        engine = open_engine(precision, cuda_graphs=cuda_graphs)
        engine.info = lambda: SimpleNamespace(cuda_graphs=state)
        return engine

    result = check_capture(dataclasses.replace(on_cuda, open=open_with_state), "fp32")
    assert result.passed is False
    assert state in result.detail


def stale(engine, documents, scores):
    """Scores of the first texts of that shape, for ever."""
    return engine.kept.setdefault(len(documents), scores)


def uncleared(engine, documents, scores):
    """Rows that follow more rows than they are take something of them."""
    return scores + np.float32(0.01 * (len(documents) < engine.most))


def late(engine, documents, scores):
    """Scores of the call before."""
    before, engine.kept["scores"] = engine.kept.get("scores", scores), scores
    return before


@pytest.mark.parametrize("fault", [stale, uncleared, late])
def test_what_is_left_of_earlier_texts_is_found(subject, fault):
    result = check_new_texts(with_fault(subject, fault), "fp32")
    assert result.passed is False
    assert "wrong at" in result.detail


@pytest.mark.parametrize("check", [check_parity, check_batching, check_capture, check_new_texts, check_callers])
def test_the_engines_way_of_running_on_a_gpu_passes(on_gpu, check):
    result = check(on_gpu(), "fp16")
    assert result.verdict == "PASS", result.detail
    if check is check_capture:
        assert "shapes captured" in result.figures["captured"]
        assert result.figures["uncaptured"] == "off"


class ReplaysOldInputs(GridRunner):
    """What stale buffers would do: a shape gives its first scores for ever."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.first = {}

    def run(self, arrays, *, wide=False):
        shape = self.grid.padded(*arrays.input_ids.shape)
        found = self.first.setdefault(shape, super().run(arrays, wide=wide))
        return np.resize(found, (len(arrays.input_ids), found.shape[1]))


class LosesRows(GridRunner):
    """Rows come back in another order when they are captured."""

    def run(self, arrays, *, wide=False):
        found = super().run(arrays, wide=wide)
        return found[::-1].copy() if self.capture else found


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


def test_memory_that_stays_passes_and_memory_that_is_kept_fails(subject):
    kept = []

    def keeps(engine, documents, scores):
        kept.append(b"x" * 1_000_000)
        return scores

    right = check_memory(subject, "fp32", 100)
    assert right.passed is True, right.detail
    assert len(right.figures["host_mib"]) == 25
    wrong = check_memory(with_fault(subject, keeps), "fp32", 100)
    assert wrong.passed is False
    assert wrong.figures["growth_mib"]["host"] > memory.ALLOWED_MIB


def test_memory_of_the_device_counts_where_it_is_told(subject, monkeypatch):
    told = iter(range(1000, 3000, 10))
    monkeypatch.setattr(memory, "used_mebibytes", lambda device: next(told))
    on_cuda = dataclasses.replace(subject, provider="cuda")
    result = check_memory(on_cuda, "fp32", 50)
    assert result.passed is False
    assert result.figures["growth_mib"]["device"] == pytest.approx(200, abs=10)
    monkeypatch.setattr(memory, "used_mebibytes", lambda device: None)
    result = check_memory(on_cuda, "fp32", 50)
    assert result.passed is True
    assert "nvidia-smi does not tell" in result.detail
    monkeypatch.setattr(memory, "resident_mebibytes", lambda: None)
    assert check_memory(on_cuda, "fp32", 5).passed is None


def test_growth_is_between_the_first_and_the_last_samples():
    assert growth([10.0] * 5 + [99.0] * 15 + [12.0] * 5) == 2
    assert growth([3.0]) == 0


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ([1.0, -8.0], [1.0, -10.0], 0.2),
        ([0.5], [0.0], 0.5),
        ([], [], 0.0),
        ([1.0], [1.0, 2.0], np.inf),
        ([np.nan, 1.0], [0.0, 1.0], np.inf),
    ],
)
def test_differences_are_relative_above_one(found, expected, difference):
    assert relative_difference(np.array(found), np.array(expected)) == pytest.approx(difference)


def test_every_precision_is_checked_and_a_check_that_breaks_has_failed(subject):
    def broken(precision, *, cuda_graphs):
        raise RuntimeError(f"no memory for {precision}")

    results = run_checks(dataclasses.replace(subject, open=broken), calls=5)
    assert Counter(result["precision"] for result in results) == {"fp32": 7, "fp16": 7, "int8": 8}
    verdicts = {(result["name"], result["verdict"]) for result in results}
    assert verdicts == {
        ("parity", "FAIL"),
        ("scores in company", "FAIL"),
        ("captured and uncaptured", "n.a."),
        ("new texts in used shapes", "FAIL"),
        ("concurrent callers", "FAIL"),
        ("placement", "PASS"),
        ("operators", "n.a."),
        ("memory", "FAIL"),
    }
    parity = results[0]
    assert parity["detail"] == "RuntimeError: no memory for fp32"
    assert "Traceback" in parity["figures"]["traceback"]
