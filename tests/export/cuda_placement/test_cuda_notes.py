"""What an export says about its graphs for CUDA, in its report and in the manifest."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from export_cases import write_pairs
from onnx import TensorProto, helper, numpy_helper

from crossrank.export import export, import_onnx
from crossrank.export.cuda_placement.placement import NAME
from crossrank.models.artifact import Artifact

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


def records_of(artifact, precision):
    [graph] = [graph for graph in Artifact.open(artifact).manifest.graphs if graph.precision == precision]
    return {record.name: record for record in graph.passes}


def with_clipped_ids(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with the same scores and a Clip of int32, for which CUDA has no kernel."""
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "input_ids":
                node.input[index] = "clipped"
    limits = {"lowest": 0, "highest": 1 << 30}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.int32), name) for name, value in limits.items()
    )
    first = (
        helper.make_node("Cast", ["input_ids"], ["narrow"], name="narrow", to=TensorProto.INT32),
        helper.make_node("Clip", ["narrow", *limits], ["within"], name="the clip"),
        helper.make_node("Cast", ["within"], ["clipped"], name="widen", to=TensorProto.INT64),
    )
    for index, node in enumerate(first):
        model.graph.node.insert(index, node)
    return model


def test_graphs_for_cuda_are_linted_and_the_note_says_what_verification_on_cpu_shows(tiny_checkpoint, pairs, tmp_path):
    report = export(
        tiny_checkpoint("bert"), tmp_path / "out", verification_pairs=pairs, activation="identity", min_kendall_tau=0.5
    )

    assert [note for note in report.notes if "CPU" in note] == [
        "fp16.onnx was measured on the CPU, which shows the rounding of its weights and no float16 arithmetic"
    ]
    for precision in ("fp32", "fp16"):
        assert "a CUDA kernel for every compute node" in records_of(report.artifact, precision)[NAME].detail
    assert NAME not in records_of(report.artifact, "int8")


def test_a_node_without_a_cuda_kernel_is_named_in_a_warning(raw_graph, tiny_checkpoint, pairs, tmp_path):
    folder = tmp_path / "imported"
    shutil.copytree(tiny_checkpoint("bert"), folder)
    onnx.save(with_clipped_ids(raw_graph("bert")), folder / "model.onnx")
    report = import_onnx(
        folder / "model.onnx",
        folder,
        tmp_path / "out",
        precisions=["fp32", "int8"],
        verification_pairs=pairs,
        min_kendall_tau=0.5,
    )

    [warning] = [note for note in report.notes if "CUDA" in note]
    assert warning.startswith("fp32.onnx on CUDA: ")
    assert "Clip the clip: no CUDA kernel for int32" in warning
    assert "Clip the clip" in records_of(report.artifact, "fp32")[NAME].detail
    assert report.to_json()["notes"] == list(report.notes)


def test_there_is_no_note_on_a_graph_outside_the_artifact(tiny_checkpoint, pairs, tmp_path):
    report = export(
        tiny_checkpoint("bert"),
        tmp_path / "out",
        precisions=["int8"],
        verification_pairs=pairs,
        activation="identity",
        min_kendall_tau=0.5,
    )

    assert report.notes == ()
