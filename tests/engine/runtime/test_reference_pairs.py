"""Reference pairs scored again: this machine agrees, or the graph that differs is named."""

import pytest
from tiny_artifacts import copy_artifact, write_artifact

from crossrank.engine.runtime.reference_pairs import TOLERANCE, check_reference_pairs
from crossrank.models.artifact import Artifact


def test_a_machine_that_gives_the_recorded_scores_agrees(tiny_artifact):
    checks = check_reference_pairs(tiny_artifact)
    assert [(check.file, check.precision, check.pairs) for check in checks] == [
        ("fp32.onnx", "fp32", 3),
        ("int8.onnx", "int8", 3),
    ]
    for check in checks:
        assert check.passed
        assert check.largest_difference <= check.tolerance == TOLERANCE[check.precision]


@pytest.mark.parametrize("shift", [0.5, 1.5])
def test_a_difference_beyond_the_tolerance_is_found_in_its_graph(tiny_artifact, tmp_path, shift):
    first, second = Artifact.open(tiny_artifact).manifest.graphs
    logits = (*second.reference_logits[:-1], second.reference_logits[-1] + shift * TOLERANCE["int8"] * 2.3162)
    folder = copy_artifact(
        tiny_artifact, tmp_path / "other", graphs=(first, second.model_copy(update={"reference_logits": logits}))
    )
    right, wrong = check_reference_pairs(folder)
    assert right.passed
    assert wrong.passed == (shift == 0.5)


def test_two_labels_are_compared_by_their_difference(tiny_checkpoint, raw_graph, tmp_path):
    import onnx

    checkpoint = tiny_checkpoint("bert", num_labels=2)
    onnx.save(raw_graph("bert", exporter="optimum", num_labels=2), tmp_path / "fp32.onnx")
    folder = write_artifact(tmp_path / "two", checkpoint, tmp_path, precisions=("fp32",), num_labels=2)
    (check,) = check_reference_pairs(folder)
    assert check.passed
    (flipped,) = check_reference_pairs(copy_artifact(folder, tmp_path / "flipped", positive_label=1))
    assert not flipped.passed


def test_each_graph_is_compared_with_its_own_scores_also_where_two_have_one_precision(tiny_artifact, tmp_path):
    # The graph for CUDA is checked on the CPU, and not by running the CPU's graph of that precision in its place.
    first, second = Artifact.open(tiny_artifact).manifest.graphs
    cuda = first.model_copy(update={"providers": ("cuda",)})
    cpu = second.model_copy(update={"precision": "fp32"})
    checks = check_reference_pairs(copy_artifact(tiny_artifact, tmp_path / "two", graphs=(cuda, cpu)))
    assert [(check.file, check.passed) for check in checks] == [("fp32.onnx", True), ("int8.onnx", True)]
