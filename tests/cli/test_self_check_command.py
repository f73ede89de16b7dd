"""`crossrank self-check` as the owner of a machine runs it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crossrank.engine.runtime.providers import choose_provider
from crossrank.self_check import run


def test_it_prints_each_check_and_writes_a_report(crossrank, tiny_artifact, tmp_path):
    written = tmp_path / "report.json"
    done = crossrank("self-check", "--provider", "cpu", "--model", tiny_artifact, "--calls", 40, "--json", written)
    assert done.exit_code == 0, done.output
    assert "no check failed" in done.stdout
    report = json.loads(written.read_text())
    assert report["passed"] is True
    assert report["provider"] == "cpu"
    verdicts = {(result["name"], result["precision"]): result["verdict"] for result in report["results"]}
    assert verdicts["provider", None] == "PASS"
    for precision in ("fp32", "int8"):
        for name in ("parity", "scores in a batch", "new texts in used shapes", "concurrent callers", "placement"):
            assert verdicts[name, precision] == "PASS"
        assert verdicts["captured and uncaptured", precision] == "n.a."
        assert verdicts["operators", precision] == "n.a."
    assert verdicts["memory", "int8"] == "PASS"
    memory = next(result for result in report["results"] if result["name"] == "memory")
    assert memory["figures"]["calls"] == 40
    assert {"date", "machine", "versions", "onnxruntime", "artifact"} <= set(report)
    assert report["artifact"]["graphs"]["int8"]["sha256"]
    for result in report["results"]:
        assert result["name"] in done.stdout
        assert result["seconds"] >= 0


def test_a_wrong_engine_is_found_and_ends_with_1(crossrank, tiny_artifact, tmp_path, monkeypatch):
    real = run.opener

    def opener(*arguments):
        open_engine = real(*arguments)

        def open_wrong(precision, *, cuda_graphs):
            engine = open_engine(precision, cuda_graphs=cuda_graphs)
            score = engine.score
            engine.score = lambda query, documents: np.roll(score(query, documents), 1)
            return engine

        return open_wrong

    monkeypatch.setattr(run, "opener", opener)
    written = tmp_path / "report.json"
    done = crossrank("self-check", "--provider", "cpu", "--model", tiny_artifact, "--calls", 5, "--json", written)
    assert done.exit_code == 1
    assert "FAIL" in done.stdout
    assert "2 checks failed" in done.stdout
    failed = [result for result in json.loads(written.read_text())["results"] if result["passed"] is False]
    assert {result["name"] for result in failed} == {"scores in a batch"}


@pytest.mark.skipif(choose_provider("auto").provider == "cuda", reason="CUDA works here")
def test_a_provider_that_does_not_start_is_a_failed_check_with_reason_and_fix(crossrank, tmp_path):
    written = tmp_path / "report.json"
    done = crossrank("self-check", "--provider", "cuda", "--json", written)
    assert done.exit_code == 1
    assert "FAIL" in done.stdout
    assert "provider='cuda' does not work here" in done.stdout
    assert "pip install 'crossrank[gpu]'" in done.stdout
    assert "Traceback" not in done.output
    report = json.loads(written.read_text())
    assert report["passed"] is False
    assert [result["name"] for result in report["results"]] == ["provider"]
    assert report["gpu"]["onnxruntime"]["build"]


def test_a_missing_model_is_an_error(crossrank):
    done = crossrank("self-check", "--provider", "cpu", "--model", "no-such-model")
    assert done.exit_code == 1
    assert "no-such-model" in done.stderr


@pytest.mark.slow
def test_the_embedded_model_is_right_on_this_processor(crossrank, tmp_path):
    written = tmp_path / "report.json"
    done = crossrank("self-check", "--provider", "cpu", "--calls", 40, "--json", written)
    assert done.exit_code == 0, done.output
    report = json.loads(written.read_text())
    assert {result["precision"] for result in report["results"]} == {None, "int8", "fp16"}
    assert [result["verdict"] for result in report["results"]].count("FAIL") == 0
