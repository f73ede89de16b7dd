"""Placement and operators: how a profile is read, and which nodes may be on the CPU."""

from __future__ import annotations

import pytest

from crossrank.models.artifact import Artifact
from crossrank.self_check.inspection import (
    AssignedNode,
    Inspection,
    NodeRun,
    inspect_graph,
    read_profile,
)
from crossrank.self_check.placement import check_placement, list_operators
from crossrank.self_check.subject import Subject, opener
from crossrank.self_check.texts import CheckTexts

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
FLOATS, SHAPE = (("float16", 3),), (("int64", 1),)


def node(operator, provider=CUDA, outputs=FLOATS, name=None, seconds=1e-3):
    return NodeRun(name or f"/{operator}", operator, provider, seconds, outputs)


MATMUL = node("MatMul")


@pytest.mark.parametrize(
    ("runs", "assigned", "named"),
    [
        ([MATMUL], None, None),
        ([MATMUL, node("Shape", CPU, SHAPE), node("Gather", CPU, (("int64", 0),))], None, None),
        ([MATMUL, node("Shape", CPU, None)], None, None),
        ([MATMUL], [AssignedNode("/folded", "Concat", CPU)], None),
        ([MATMUL, node("LayerNormalization", CPU)], None, "/LayerNormalization (LayerNormalization)"),
        ([MATMUL, node("Gather", CPU, FLOATS)], None, "/Gather (Gather)"),
        ([MATMUL, node("Where", CPU, (("int64", 2),))], None, "/Where (Where)"),
        ([MATMUL, node("Add", CPU, None)], None, "/Add (Add)"),
        ([MATMUL, node("MemcpyToHost", CUDA)], None, "/MemcpyToHost (MemcpyToHost)"),
        ([MATMUL, node("MemcpyFromHost", CPU, SHAPE)], None, "/MemcpyFromHost (MemcpyFromHost)"),
        ([MATMUL], [AssignedNode("/fused", "Softmax", CPU)], "/fused (Softmax)"),
    ],
    ids=[
        "all on CUDA",
        "shape nodes on CPU",
        "Shape of unknown type",
        "folded shape node",
        "a norm on CPU",
        "embeddings looked up on CPU",
        "ids of every token on CPU",
        "sum of unknown type on CPU",
        "copy to the host",
        "copy to the device",
        "compute node assigned to CPU",
    ],
)
def test_only_nodes_that_compute_shapes_may_be_elsewhere(runs, assigned, named):
    inspection = Inspection(None if assigned is None else tuple(assigned), tuple(runs), {})
    result = check_placement(inspection, "cuda", "fp16")
    assert result.passed is (named is None), result.detail
    assert result.figures["wrong"] == ([] if named is None else [named])
    if named:
        assert named in result.detail


def test_a_profile_without_nodes_fails():
    assert check_placement(Inspection((), (), {}), "cuda", "fp16").passed is False


def event(name, category="Node", start=0, duration=1000, **arguments):
    return {"cat": category, "name": name, "ts": start, "dur": duration, "args": arguments}


def test_only_the_last_run_of_a_profile_counts():
    where = {"op_name": "MatMul", "provider": CUDA}
    events = [
        event("session_initialization", "Session", 0),
        event("model_run", "Session", 10),
        event("/q_kernel_time", start=12, **where),
        event("model_run", "Session", 5000),
        event("/q_kernel_time", start=5001, output_type_shape=[{"float16": [8, 64, 384]}, {"int64": [2]}], **where),
        event("/q_fence_before", start=5001, **where),
        event("ampere_fp16_gemm", "Kernel", 5002, 40),
        event("ampere_fp16_gemm", "Kernel", 5003, 60),
    ]
    runs, kernels = read_profile(events)
    assert runs == (NodeRun("/q", "MatMul", CUDA, 1e-3, (("float16", 3), ("int64", 1))),)
    assert kernels == pytest.approx({"ampere_fp16_gemm": 1e-4})
    assert read_profile([]) == ((), {})


def test_operators_are_listed_with_provider_and_share():
    runs = (MATMUL, node("MatMul", name="/b", seconds=2e-3), node("Shape", CPU, SHAPE, seconds=1e-3))
    result = list_operators(Inspection(None, runs, {"gemm": 2e-5, "norm": 3e-5}), "fp16")
    assert result.passed is None
    assert result.figures["operators"] == [
        {"operator": "MatMul", "provider": CUDA, "nodes": 2, "share": pytest.approx(0.75)},
        {"operator": "Shape", "provider": CPU, "nodes": 1, "share": pytest.approx(0.25)},
    ]
    assert list(result.figures["kernels"]) == ["norm", "gemm"]
    assert "MatMul 75%" in result.detail


def test_a_real_graph_is_inspected(tiny_artifact):
    artifact = Artifact.open(tiny_artifact)
    subject = Subject(artifact, "cpu", 0, CheckTexts(artifact), opener(artifact, "cpu", 0))
    inspection = inspect_graph(subject, "fp32")
    operators = {run.operator for run in inspection.runs}
    assert {"MatMul", "Softmax"} & operators
    assert {run.provider for run in inspection.runs} == {CPU}
    assert inspection.assigned is None or {item.provider for item in inspection.assigned} == {CPU}
    assert check_placement(inspection, "cpu", "fp32").passed is True
    wrong = check_placement(inspection, "cuda", "fp32")
    assert wrong.passed is False
    assert "and" in wrong.detail
    listed = list_operators(inspection, "fp32").figures["operators"]
    assert sum(row["share"] for row in listed) == pytest.approx(1)
