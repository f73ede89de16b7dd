"""Graphs that are not a reranker's are refused with the reason when they are loaded, not when they score."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny_artifacts import copy_artifact, rewrite_manifest

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.runtime.session import checked_logits
from crossrank.engine.text.encoded import TokenArrays
from crossrank.errors import ArtifactError, InferenceError

INT64 = TensorProto.INT64


def graph(inputs=(("input_ids", INT64),), width=1, outputs=1, output_type=TensorProto.FLOAT, rank=2):
    """A graph whose logit is the mean of its first input, as many inputs and outputs as asked for."""
    axes = ["batch", width][:rank] if rank < 3 else ["batch", width, 1]
    nodes = [
        helper.make_node("Cast", [inputs[0][0]], ["as_float"], to=output_type),
        helper.make_node("ReduceMean", ["as_float"], ["mean"], axes=[1], keepdims=0 if rank == 1 else 1),
    ]
    mean = "mean"
    if rank == 3:
        nodes.append(helper.make_node("Unsqueeze", ["mean", "two"], ["cube"]))
        mean = "cube"
    if width == 2:
        nodes.append(helper.make_node("Concat", ["mean", "mean"], ["pair"], axis=1))
        mean = "pair"
    names = ["logits", "hidden"][:outputs]
    nodes += [helper.make_node("Identity", [mean], [name]) for name in names]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(name, kind, ["batch", "sequence"]) for name, kind in inputs],
            [helper.make_tensor_value_info(name, output_type, axes) for name in names],
            [helper.make_tensor("two", INT64, [1], [2])] if rank == 3 else [],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def artifact_of(tiny_artifact, tmp_path):
    """A function that replaces the tiny artifact's graph, with correct digests."""

    def make(model, **manifest_keys):
        folder = copy_artifact(tiny_artifact, tmp_path / "artifact")
        data = model if isinstance(model, bytes) else model.SerializeToString()
        (folder / "fp32.onnx").write_bytes(data)
        return rewrite_manifest(folder, **manifest_keys)

    return make


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_a_score_that_is_no_number_is_an_error_that_names_both_causes(value, kind):
    arrays = TokenArrays(*(np.ones((2, 8), np.int64) for _ in range(3)))
    with pytest.raises(InferenceError, match=rf"no number \({kind}\).*2 pairs x 8.*fp16.*fp32 graph the weights"):
        checked_logits(np.array([[0.5], [value]], np.float32), arrays)


def open_fp32(folder):
    return ArtifactReranker(folder, provider="cpu", precision="fp32")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (graph([("input_ids", INT64), ("pixel_values", INT64)]), "takes 'pixel_values'.*expected are input_ids"),
        (graph([("input_ids", TensorProto.FLOAT)]), r"takes 'input_ids' of tensor\(float\)"),
        (graph([("attention_mask", INT64)]), "takes no input_ids"),
        (graph(outputs=2), "one float32 output of shape"),
        (graph(rank=1), "one float32 output of shape"),
        (graph(rank=3), "one float32 output of shape"),
        (graph(output_type=TensorProto.DOUBLE), "one float32 output of shape"),
        (graph(width=2), "gives 2 labels, the manifest says 1"),
        (b"no graph at all", "onnxruntime .* cannot load"),
        (b"", "onnxruntime .* cannot load"),
    ],
    ids=[
        "another input",
        "float ids",
        "no ids",
        "two outputs",
        "rank 1",
        "rank 3",
        "double",
        "2 labels",
        "junk",
        "empty",
    ],
)
def test_a_graph_that_is_not_a_rerankers_is_refused_by_name(artifact_of, model, message):
    folder = artifact_of(model)
    with pytest.raises(ArtifactError, match=message) as caught:
        open_fp32(folder)
    assert str(folder / "fp32.onnx") in str(caught.value)


@pytest.mark.parametrize("kind", [INT64, TensorProto.INT32])
def test_a_graph_may_take_only_ids_and_of_either_integer(artifact_of, kind):
    with open_fp32(artifact_of(graph([("input_ids", kind)]))) as reranker:
        scores = reranker.score("who", ["", "reads"])
    assert np.isfinite(scores).all()
    assert scores[0] != scores[1]


def test_the_manifests_positive_label_decides_the_sign(artifact_of, tiny_artifact):
    model = graph(width=2)
    negate = helper.make_node("Neg", ["mean"], ["minus"])
    model.graph.node.insert(2, negate)
    model.graph.node[3].input[1] = "minus"
    folder = artifact_of(model, num_labels=2, positive_label=0)
    with open_fp32(folder) as reranker:
        first = reranker.score("who", ["reads"])
    rewrite_manifest(folder, num_labels=2, positive_label=1)
    with open_fp32(folder) as reranker:
        second = reranker.score("who", ["reads"])
    assert first[0] > 1
    assert second.tolist() == (-first).tolist()


def test_the_error_of_a_failed_run_names_the_shape(artifact_of):
    model = graph()
    # A table of one row: every other token id is out of its range.
    model.graph.node.insert(0, helper.make_node("Gather", ["table", "input_ids"], ["looked_up"]))
    model.graph.node[1].input[0] = "looked_up"
    model.graph.initializer.append(helper.make_tensor("table", TensorProto.FLOAT, [1], [1.0]))
    with open_fp32(artifact_of(model)) as reranker:
        with pytest.raises(InferenceError, match=r"onnxruntime failed on 1 pairs x \d+ tokens: .*Gather"):
            reranker.score("who", ["reads"])
        with pytest.raises(InferenceError):
            reranker.rank("who", ["reads"])


def test_nothing_is_printed_when_onnxruntime_fails(artifact_of, capfd):
    with pytest.raises(ArtifactError):
        open_fp32(artifact_of(b"junk"))
    assert capfd.readouterr() == ("", "")
