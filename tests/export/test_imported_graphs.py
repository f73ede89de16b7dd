"""What an imported graph is, is examined: its activation, the form of its output, and how its weights are stored."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_cases import transformers_logits, write_pairs
from onnx import TensorProto, helper, numpy_helper
from tiny_checkpoints import MAX_LENGTH, make_pairs

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import InvalidInputError, UnsupportedCheckpointError
from crossrank.export import import_onnx
from crossrank.export.graph.stored_precision import stored_precision
from crossrank.models.artifact import Artifact

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

ASKED = make_pairs(12, seed=3)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", queries=2)


@pytest.fixture
def bring(tiny_checkpoint, pairs, tmp_path):
    """A function `(graph, **options) -> report` that imports a graph beside the tiny BERT's tokenizer."""

    def run(model: onnx.ModelProto, labels: int = 1, **options: object):
        (tmp_path / "in").mkdir(exist_ok=True)
        onnx.save(model, tmp_path / "in" / "model.onnx")
        folder = tiny_checkpoint("bert", num_labels=labels)
        options = {"verification_pairs": pairs, "min_kendall_tau": 0.0, "force": True} | options
        return import_onnx(tmp_path / "in" / "model.onnx", folder, tmp_path / "out", **options)

    return run


def scores(artifact: Path, *, activation=None, precision="fp32"):
    with ArtifactReranker(artifact, provider="cpu", precision=precision, activation=activation) as reranker:
        return reranker.score_pairs(ASKED)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def append(model: onnx.ModelProto, *nodes, shape=("batch", 1), kind=TensorProto.FLOAT) -> onnx.ModelProto:
    """Put nodes behind a graph's output; each is `(operator, inputs besides the first, attributes)`."""
    name, opset = model.graph.output[0].name, model.opset_import[0].version
    for index, (operator, constants, attributes) in enumerate(nodes):
        inputs, options = [name], dict(attributes)
        axes = [np.array(options.pop("axes"))] if operator == "ReduceMin" and opset >= 18 else []  # an attribute before
        for constant in [*constants, *axes]:
            label = f"constant_{index}_{len(inputs)}"
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(constant), label))
            inputs.append(label)
        name = f"behind_{index}"
        model.graph.node.append(helper.make_node(operator, inputs, [name], **options))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    return model


SQUEEZE = ("Squeeze", [np.array([1])], {})
UNSQUEEZE = ("Unsqueeze", [np.array([1])], {})
SIGMOID = ("Sigmoid", [], {})
IDENTITY = ("Identity", [], {})
SOFTMAX = ("Softmax", [], {"axis": -1})
TO_HALF = ("Cast", [], {"to": TensorProto.FLOAT16})
TO_FLOAT = ("Cast", [], {"to": TensorProto.FLOAT})


class TestActivationInside:
    @pytest.mark.parametrize("stated", [None, "identity", "sigmoid"])
    @pytest.mark.parametrize(
        ("nodes", "shape"),
        [
            ([SIGMOID], ("batch", 1)),
            ([SIGMOID, IDENTITY], ("batch", 1)),
            ([SIGMOID, SQUEEZE], ("batch",)),
            ([SQUEEZE, SIGMOID], ("batch",)),
            ([SIGMOID, ("Reshape", [np.array([-1])], {})], ("batch",)),
            ([SIGMOID, SQUEEZE, UNSQUEEZE, TO_FLOAT], ("batch", 1)),
        ],
    )
    def test_a_sigmoid_is_applied_once_whatever_is_stated(
        self, nodes, shape, stated, raw_graph, bring, tiny_checkpoint
    ):
        report = bring(append(raw_graph("bert"), *nodes, shape=shape), activation=stated)

        logits = transformers_logits(tiny_checkpoint("bert"), ASKED, max_length=MAX_LENGTH)[:, 0]
        np.testing.assert_allclose(scores(report.artifact), sigmoid(logits), atol=1e-4)
        np.testing.assert_allclose(scores(report.artifact, activation="identity"), logits, atol=1e-4)
        assert any("Sigmoid, which was taken off" in note for note in report.notes)

    @pytest.mark.parametrize(
        ("nodes", "shape", "positive"),
        [
            ([SOFTMAX], ("batch", 2), 0),
            ([SOFTMAX, ("Gather", [np.array(1)], {"axis": 1})], ("batch",), None),
            ([SOFTMAX, ("Slice", [np.array([1]), np.array([2]), np.array([1])], {})], ("batch", 1), None),
            ([SOFTMAX, ("Gather", [np.array(0)], {"axis": 1})], ("batch",), None),
            ([("Softmax", [], {"axis": 1}), ("Gather", [np.array(-1)], {"axis": -1})], ("batch",), None),
        ],
    )
    def test_a_softmax_of_two_labels_is_the_sigmoid_of_their_difference(
        self, nodes, shape, positive, raw_graph, bring, tiny_checkpoint
    ):
        report = bring(append(raw_graph("bert", num_labels=2), *nodes, shape=shape), labels=2, positive_label=positive)

        logits = transformers_logits(tiny_checkpoint("bert", num_labels=2), ASKED, max_length=MAX_LENGTH)
        first = positive == 0 or (len(nodes) > 1 and nodes[1][1] and np.ravel(nodes[1][1][0])[0] == 0)
        difference = logits[:, 0] - logits[:, 1] if first else logits[:, 1] - logits[:, 0]
        np.testing.assert_allclose(scores(report.artifact), sigmoid(difference), atol=1e-4)

    def test_two_labels_with_a_sigmoid_each_give_the_one_that_means_relevant(self, raw_graph, bring, tiny_checkpoint):
        graph = append(raw_graph("bert", num_labels=2), SIGMOID, shape=("batch", 2))
        report = bring(graph, labels=2, positive_label=1)
        logits = transformers_logits(tiny_checkpoint("bert", num_labels=2), ASKED, max_length=MAX_LENGTH)
        np.testing.assert_allclose(scores(report.artifact), sigmoid(logits[:, 1]), atol=1e-4)

    def test_a_label_other_than_the_one_the_file_picks_is_refused(self, raw_graph, bring):
        graph = append(
            raw_graph("bert", num_labels=2), SOFTMAX, ("Gather", [np.array(1)], {"axis": 1}), shape=("batch",)
        )
        with pytest.raises(InvalidInputError, match="picks label 1"):
            bring(graph, labels=2, positive_label=0)

    def test_the_label_the_file_picks_may_be_stated_by_its_name(self, raw_graph, tiny_checkpoint, pairs, tmp_path):
        graph = append(
            raw_graph("bert", num_labels=2), SOFTMAX, ("Gather", [np.array(1)], {"axis": 1}), shape=("batch",)
        )
        onnx.save(graph, tmp_path / "model.onnx")
        folder = Path(shutil.copytree(tiny_checkpoint("bert", num_labels=2), tmp_path / "folder"))
        config = json.loads((folder / "config.json").read_text()) | {"id2label": {"0": "other", "1": "Relevant"}}
        (folder / "config.json").write_text(json.dumps(config))

        def bring(stated):
            return import_onnx(
                tmp_path / "model.onnx", folder, tmp_path / "out", verification_pairs=pairs, positive_label=stated
            )

        with pytest.raises(InvalidInputError, match="picks label 1"):
            bring("other")
        with pytest.raises(InvalidInputError, match="'duplicate' is no label"):
            bring("duplicate")
        assert bring("relevant").artifact.is_dir()

    @pytest.mark.parametrize(
        ("nodes", "operator"),
        [
            ([("Tanh", [], {})], "Tanh"),
            ([SIGMOID, ("Mul", [np.float32(5)], {})], "Sigmoid"),
            ([SIGMOID, SIGMOID], "Sigmoid"),
            ([("Neg", [], {}), ("Exp", [], {}), ("Add", [np.float32(1)], {}), ("Reciprocal", [], {})], "Exp"),
            ([("Clip", [], {})], "Clip"),
            ([("Cosh", [], {})], "Cosh"),
            ([("Greater", [np.float32(0)], {}), TO_FLOAT], "Greater"),
            ([SIGMOID, ("Expand", [np.array([1, 1])], {})], "Sigmoid"),
            ([SIGMOID, ("Pad", [np.array([0, 0, 0, 0])], {})], "Sigmoid"),
            ([SIGMOID, ("ReduceMin", [], {"axes": [1], "keepdims": 1})], "Sigmoid"),
        ],
    )
    def test_another_activation_is_refused_unless_its_scores_are_wanted_as_they_are(
        self, nodes, operator, raw_graph, bring, tiny_checkpoint
    ):
        graph = append(raw_graph("bert"), *nodes)
        for stated in (None, "sigmoid"):
            with pytest.raises(UnsupportedCheckpointError, match=rf"went through {operator} .*activation='identity'"):
                bring(graph, activation=stated)
        report = bring(graph, activation="identity")
        assert any(f"through {operator} already" in note for note in report.notes)
        assert report.verification.max_abs_difference <= 1e-4

    @pytest.mark.parametrize(
        "nodes",
        [
            [SOFTMAX, ("MatMul", [np.array([[0], [1]], np.float32)], {})],
            [SOFTMAX, ("Mul", [np.float32(2)], {}), ("Gemm", [np.array([[1], [5]], np.float32)], {})],
            [SOFTMAX, ("Compress", [np.array([False, True])], {"axis": 1})],
        ],
    )
    def test_a_score_made_of_probabilities_is_no_logit(self, nodes, raw_graph, bring):
        graph = append(raw_graph("bert", num_labels=2), *nodes)
        with pytest.raises(UnsupportedCheckpointError, match=r"went through Softmax .*activation='identity'"):
            bring(graph)

    @pytest.mark.parametrize(
        ("nodes", "shape"),
        [
            ([TO_HALF, SOFTMAX, TO_FLOAT], ("batch", 2)),
            ([TO_HALF, SOFTMAX, TO_FLOAT, ("Gather", [np.array(1)], {"axis": 1})], ("batch",)),
        ],
    )
    def test_a_softmax_of_another_float_type_than_the_output_is_taken_off(
        self, nodes, shape, raw_graph, bring, tiny_checkpoint
    ):
        report = bring(append(raw_graph("bert", num_labels=2), *nodes, shape=shape), labels=2)
        logits = transformers_logits(tiny_checkpoint("bert", num_labels=2), ASKED, max_length=MAX_LENGTH)
        np.testing.assert_allclose(scores(report.artifact), sigmoid(logits[:, 1] - logits[:, 0]), atol=1e-2)

    def test_a_head_of_several_layers_has_its_own_activations(self, raw_graph, bring):
        """Only a softmax or a sigmoid makes probabilities; a narrow layer behind a Relu is part of the head."""
        wide, narrow = np.ones((1, 8), np.float32), np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
        layers = [("MatMul", [wide], {}), ("Relu", [], {}), ("MatMul", [narrow], {})]
        assert not any("went through" in note for note in bring(append(raw_graph("bert"), *layers)).notes)

    def test_of_a_log_softmax_only_what_is_true_is_told(self, raw_graph, bring, tiny_checkpoint):
        logarithm = ("LogSoftmax", [], {"axis": -1})
        report = bring(append(raw_graph("bert", num_labels=2), logarithm, shape=("batch", 2)), labels=2)
        logits = transformers_logits(tiny_checkpoint("bert", num_labels=2), ASKED, max_length=MAX_LENGTH)
        np.testing.assert_allclose(scores(report.artifact), sigmoid(logits[:, 1] - logits[:, 0]), atol=1e-4)
        (note,) = (note for note in report.notes if "LogSoftmax" in note)
        assert "the probability whose logarithm the file gives" in note
        with pytest.raises(UnsupportedCheckpointError, match="LogSoftmax over one label, which is 0 for every pair"):
            bring(append(raw_graph("bert"), logarithm))

    def test_a_sigmoid_inside_a_function_of_the_files_own_is_seen(self, raw_graph, bring, tiny_checkpoint):
        model = append(raw_graph("bert"), ("score", [], {"domain": "mine"}))
        body = helper.make_node("Sigmoid", ["x"], ["y"])
        opsets = [entry for entry in model.opset_import if not entry.domain]
        model.functions.append(helper.make_function("mine", "score", ["x"], ["y"], [body], opsets))
        model.opset_import.append(helper.make_opsetid("mine", 1))
        report = bring(model)
        logits = transformers_logits(tiny_checkpoint("bert"), ASKED, max_length=MAX_LENGTH)[:, 0]
        np.testing.assert_allclose(scores(report.artifact), sigmoid(logits), atol=1e-4)

    def test_a_softmax_over_one_label_says_nothing_and_is_refused(self, raw_graph, bring):
        with pytest.raises(UnsupportedCheckpointError, match="1 for every pair"):
            bring(append(raw_graph("bert"), SOFTMAX))


class TestOutputForm:
    @pytest.mark.parametrize(
        ("nodes", "shape", "kind"),
        [
            ([SQUEEZE], ("batch",), TensorProto.FLOAT),
            ([UNSQUEEZE], ("batch", 1, 1), TensorProto.FLOAT),
            ([TO_HALF], ("batch", 1), TensorProto.FLOAT16),
            ([TO_HALF, SQUEEZE], ("batch",), TensorProto.FLOAT16),
            ([IDENTITY], None, TensorProto.FLOAT),
            ([("Cast", [], {"to": TensorProto.DOUBLE})], ("batch", 1), TensorProto.DOUBLE),
        ],
    )
    def test_columns_and_floats_of_any_kind_are_served(self, nodes, shape, kind, raw_graph, bring, tiny_checkpoint):
        report = bring(append(raw_graph("bert"), *nodes, shape=shape, kind=kind), activation="identity")
        logits = transformers_logits(tiny_checkpoint("bert"), ASKED, max_length=MAX_LENGTH)[:, 0]
        tolerance = 1e-2 if kind == TensorProto.FLOAT16 else 1e-4
        np.testing.assert_allclose(scores(report.artifact), logits, atol=tolerance)

    def test_a_length_that_was_fixed_when_it_was_traced_is_the_reason(self, raw_graph, bring):
        graph = raw_graph("bert")
        hidden = next(node.output[0] for node in graph.graph.node if node.op_type == "LayerNormalization")
        shape = numpy_helper.from_array(np.array([-1, 8, 64]), "fixed")
        graph.graph.initializer.append(shape)
        index = next(i for i, node in enumerate(graph.graph.node) if hidden in node.output)
        for node in graph.graph.node[index + 1 :]:
            for position, name in enumerate(node.input):
                if name == hidden:
                    node.input[position] = "as_traced"
        graph.graph.node.insert(index + 1, helper.make_node("Reshape", [hidden, "fixed"], ["as_traced"]))
        with pytest.raises(UnsupportedCheckpointError, match="dynamic axes"):
            bring(graph)

    def test_a_batch_of_one_that_was_fixed_when_it_was_traced_is_the_reason(self, raw_graph, bring):
        graph = append(raw_graph("bert"), ("Reshape", [np.array([1, 1])], {}))
        with pytest.raises(UnsupportedCheckpointError, match=r"one pair and not several.*dynamic axes"):
            bring(graph)


def _as_integers(graph: onnx.ModelProto, kind, *, operator="Cast"):
    """Store the largest matrix in another type, and bring it back at run time."""
    tensor = max(graph.graph.initializer, key=lambda item: int(np.prod(item.dims)))
    name, values = tensor.name, numpy_helper.to_array(tensor)
    scale = np.float32(np.abs(values).max() / 127)
    stored = np.round(values / scale).astype(np.int8) if kind == np.int8 else values.astype(kind)
    tensor.CopyFrom(numpy_helper.from_array(stored, f"{name}_stored"))
    graph.graph.initializer.append(numpy_helper.from_array(scale, "scale"))
    if operator == "DequantizeLinear":
        nodes = [helper.make_node(operator, [f"{name}_stored", "scale"], [name])]
    else:
        nodes = [helper.make_node("Cast", [f"{name}_stored"], [f"{name}_float"], to=TensorProto.FLOAT)]
        factor = "scale" if kind == np.int8 else "one"
        graph.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
        nodes.append(helper.make_node("Mul", [f"{name}_float", factor], [name]))
    for node in reversed(nodes):
        graph.graph.node.insert(0, node)
    return graph


class TestStoredPrecision:
    @pytest.mark.parametrize(
        ("kind", "operator", "precision"),
        [
            (np.int8, "DequantizeLinear", "int8"),
            (np.int8, "Cast", "int8"),
            (np.float16, "Cast", "fp16"),
        ],
    )
    def test_weights_that_come_back_at_run_time_are_not_called_float32(
        self, kind, operator, precision, raw_graph, bring
    ):
        graph = _as_integers(raw_graph("bert"), kind, operator=operator)
        assert stored_precision(graph) == precision
        report = bring(graph)
        assert [graph.precision for graph in report.graphs] == [precision]
        assert not any(record.name == "int8" and record.changed for record in report.graphs[0].passes)
        with pytest.raises(InvalidInputError, match=f"stored in {precision}"):
            bring(graph, precisions=["fp32", "int8"])

    @pytest.mark.parametrize("kind", ["INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2"])
    def test_weights_of_types_that_onnxruntime_only_dequantizes_are_carried(self, kind, raw_graph, bring):
        graph = raw_graph("bert")
        tensor = max(graph.graph.initializer, key=lambda item: int(np.prod(item.dims)))
        name, values = tensor.name, numpy_helper.to_array(tensor)
        scale = np.float32(np.abs(values).max() / 7)
        steps = np.clip(np.round(values / scale), 0 if kind == "UINT4" else -7, 7).ravel().tolist()
        steps = [int(step) for step in steps] if "INT" in kind else steps
        tensor.CopyFrom(helper.make_tensor(f"{name}_stored", getattr(TensorProto, kind), values.shape, steps))
        graph.graph.initializer.append(numpy_helper.from_array(scale, "scale"))
        graph.graph.node.insert(0, helper.make_node("DequantizeLinear", [f"{name}_stored", "scale"], [name]))
        next(entry for entry in graph.opset_import if not entry.domain).version = 21
        graph.ir_version = 10
        report = bring(graph)
        assert [made.precision for made in report.graphs] == ["int8"]
        assert report.verification.max_abs_difference <= 1e-4

    @pytest.mark.parametrize(
        ("domain", "operator"),
        [
            ("com.microsoft", "MatMulNBits"),
            ("com.microsoft", "QLinearSoftmax"),
            ("com.microsoft", "GatherBlockQuantized"),
            ("com.microsoft", "MatMulBnb4"),
            ("", "DynamicQuantizeLinear"),
            ("", "QLinearMatMul"),
            ("", "MatMulInteger"),
        ],
    )
    @pytest.mark.parametrize("inside", [False, True])
    def test_a_quantized_operator_anywhere_is_seen(self, domain, operator, inside):
        node = helper.make_node(operator, ["a"], ["b"], domain=domain)
        if inside:
            body = helper.make_graph([node], "then", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)])
            node = helper.make_node("If", ["c"], ["b"], then_branch=body, else_branch=body)
        assert stored_precision(helper.make_model(helper.make_graph([node], "g", [], []))) == "int8"

    def test_weights_in_constant_nodes_count(self):
        value = numpy_helper.from_array(np.ones((64, 64), np.float16))
        node = helper.make_node("Constant", [], ["a"], value=value)
        assert stored_precision(helper.make_model(helper.make_graph([node], "g", [], []))) == "fp16"


class TestHubLinks:
    @pytest.fixture
    def snapshot(self, raw_graph, tiny_checkpoint, tmp_path):
        """A snapshot of a hub cache: every file a link to blobs, the graph's weights in one of their own."""
        repository = tmp_path / "hub" / "models--a--b"
        folder, blobs = repository / "snapshots" / ("a" * 40), repository / "blobs"
        (folder / "onnx").mkdir(parents=True)
        blobs.mkdir()
        beside = tmp_path / "beside"
        beside.mkdir()
        onnx.save(
            raw_graph("bert"), beside / "model.onnx", save_as_external_data=True, location="model.onnx_data",
            size_threshold=100,
        )  # fmt: skip
        files = [(path, folder / "onnx" / path.name) for path in beside.iterdir()]
        files += [(path, folder / path.name) for path in tiny_checkpoint("bert").iterdir()]
        for number, (source, link) in enumerate(files):
            blob = blobs / f"{number:064}"
            shutil.copy(source, blob)
            link.symlink_to(os.path.relpath(blob, link.parent))
        return folder

    def test_weights_behind_the_links_of_a_hub_cache_load(self, snapshot, pairs, tmp_path):
        report = import_onnx(snapshot / "onnx" / "model.onnx", snapshot, tmp_path / "out", verification_pairs=pairs)
        assert set(Artifact.open(report.artifact).manifest.source.weights_sha256) == {"model.onnx", "model.onnx_data"}

    @pytest.mark.parametrize("where", ["elsewhere", "other"])
    def test_a_link_out_of_the_repository_is_refused(self, where, snapshot, pairs, tmp_path):
        data = snapshot / "onnx" / "model.onnx_data"
        places = {"elsewhere": tmp_path / "secret", "other": snapshot.parents[2] / "models--c--d" / "blobs" / "1"}
        places[where].parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data.resolve(), places[where])
        data.unlink()
        data.symlink_to(places[where])
        with pytest.raises(UnsupportedCheckpointError, match=r"a link to .*neither in its folder nor in the hub cache"):
            import_onnx(snapshot / "onnx" / "model.onnx", snapshot, tmp_path / "out", verification_pairs=pairs)

    def test_weights_that_are_not_there_or_too_short_are_the_reason(self, snapshot, pairs, tmp_path):
        data = snapshot / "onnx" / "model.onnx_data"
        blob = data.resolve()
        content = blob.read_bytes()
        blob.write_bytes(content[:100])
        with pytest.raises(UnsupportedCheckpointError, match=r"ends before byte"):
            import_onnx(snapshot / "onnx" / "model.onnx", snapshot, tmp_path / "out", verification_pairs=pairs)
        data.unlink()
        with pytest.raises(UnsupportedCheckpointError, match=r"model\.onnx_data is not there"):
            import_onnx(snapshot / "onnx" / "model.onnx", snapshot, tmp_path / "out", verification_pairs=pairs)


@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("bert", {"do_lower_case": False}),
        ("bert", {"strip_accents": True, "do_lower_case": False}),
        ("electra", {"do_lower_case": False, "tokenizer_class": "ElectraTokenizerFast"}),
        ("distilbert", {"do_lower_case": False}),
        ("roberta", {"add_prefix_space": True}),
        ("modernbert", {"add_prefix_space": True}),
        ("xlm-roberta", {}),
        ("deberta-v2", {"model_max_length": 40}),
    ],
)
def test_an_import_reads_texts_as_transformers_reads_the_folder(
    family, keys, tiny_checkpoint, raw_graph, pairs, tmp_path
):
    folder = Path(shutil.copytree(tiny_checkpoint(family), tmp_path / "folder"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    onnx.save(raw_graph(family), tmp_path / "model.onnx")

    report = import_onnx(tmp_path / "model.onnx", folder, tmp_path / "out", verification_pairs=pairs)

    asked = [*ASKED, ("The RIVER", "Zürich CAFÉ <river> naïve"), (" a", "  B c")]
    length = keys.get("model_max_length", MAX_LENGTH)
    expected = transformers_logits(folder, asked, max_length=length)[:, 0]
    with ArtifactReranker(report.artifact, provider="cpu", precision="fp32", activation="identity") as reranker:
        np.testing.assert_allclose(reranker.score_pairs(asked), expected, atol=1e-4, rtol=0)
    assert "AutoTokenizer" in report.verification.reference


def test_a_file_that_itself_fails_on_a_pair_is_the_reason(tiny_checkpoint, raw_graph, pairs, tmp_path):
    """The tokenizer has a token that the file has no embedding for, as where one was added and nothing resized."""
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "folder"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"additional_special_tokens": ["<mask>"]}))
    onnx.save(raw_graph("bert"), tmp_path / "model.onnx")
    with pytest.raises(UnsupportedCheckpointError, match=r"model\.onnx itself fails on the pair .*<mask>.*out of data"):
        import_onnx(tmp_path / "model.onnx", folder, tmp_path / "out", verification_pairs=pairs)
