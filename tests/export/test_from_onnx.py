"""Importing ONNX files: without torch, verified against themselves, quantized on request."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_cases import folder_bytes, transformers_logits, write_pairs
from onnx import TensorProto, helper, numpy_helper
from tiny_checkpoints import MAX_LENGTH, make_pairs

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import (
    ArtifactError,
    FidelityError,
    InvalidInputError,
    MissingDependencyError,
    UnsupportedCheckpointError,
)
from crossrank.export import export, import_onnx
from crossrank.models.artifact import Artifact, sha256_of

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

LOOSE = 0.5


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


@pytest.fixture
def folder(tiny_checkpoint):
    """A tokenizer folder with its configuration."""
    return tiny_checkpoint("bert")


@pytest.fixture
def file(raw_graph, tmp_path):
    """The folder's model as an exporter wrote it."""
    path = tmp_path / "files" / "model.onnx"
    path.parent.mkdir()
    onnx.save(raw_graph("bert"), path)
    return path


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def scores(artifact: Path, asked, precision: str = "fp32") -> np.ndarray:
    with ArtifactReranker(artifact, provider="cpu", precision=precision, activation="identity") as reranker:
        return reranker.score_pairs(asked)


@pytest.mark.parametrize("optimize", [True, False])
def test_a_float32_file_scores_as_its_checkpoint(optimize, file, folder, pairs, tmp_path):
    report = import_onnx(file, folder, tmp_path / "out", verification_pairs=pairs, optimize=optimize)

    asked = make_pairs(20, seed=3)
    expected = transformers_logits(folder, asked, max_length=MAX_LENGTH)[:, 0]
    np.testing.assert_allclose(scores(tmp_path / "out", asked), expected, atol=1e-4, rtol=0)
    manifest = Artifact.open(tmp_path / "out").manifest
    assert (manifest.source.kind, manifest.source.id) == ("onnx", "model.onnx")
    assert manifest.source.weights_sha256 == {"model.onnx": sha256_of(file)}
    assert (manifest.max_length, manifest.uses_segment_ids, manifest.num_labels) == (MAX_LENGTH, True, 1)
    assert manifest.architecture.num_hidden_layers == 2
    assert not {"torch", "transformers", "optimum-onnx"} & set(manifest.library_versions)
    (graph,) = report.graphs
    assert (graph.precision, graph.fidelity.reference) == ("fp32", "self")
    assert graph.fidelity.max_abs_logit_difference <= 1e-4
    assert any(record.changed for record in graph.passes) == optimize


def test_torch_is_not_needed(file, folder, pairs, tmp_path):
    code = (
        "import sys, pathlib\n"
        "for name in ('torch', 'transformers', 'optimum'): sys.modules[name] = None\n"
        "from crossrank.export import import_onnx\n"
        f"import_onnx({str(file)!r}, {str(folder)!r}, {str(tmp_path / 'out')!r}, "
        f"precisions=['fp32', 'int8', 'fp16'], min_kendall_tau={LOOSE}, "
        f"verification_pairs=pathlib.Path({str(pairs)!r}))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert {graph.precision for graph in Artifact.open(tmp_path / "out").manifest.graphs} == {"fp32", "int8", "fp16"}


def test_quantized_on_request_and_float32_left_out(file, folder, pairs, tmp_path):
    report = import_onnx(
        file, folder, tmp_path / "out", precisions=["int8"], verification_pairs=pairs, min_kendall_tau=LOOSE
    )
    assert left_in(tmp_path / "out") == ["int8.onnx", "manifest.json", "tokenizer.json"]
    assert report.graphs[0].fidelity.reference == "fp32"
    assert report.graphs[0].fidelity.max_abs_logit_difference > 0


def test_a_quantized_file_is_int8_and_keeps_what_may_share_its_runs(file, folder, pairs, tmp_path):
    options = {"verification_pairs": pairs, "min_kendall_tau": LOOSE}
    import_onnx(file, folder, tmp_path / "first", precisions=["int8"], **options)
    quantized = tmp_path / "first" / "int8.onnx"

    report = import_onnx(quantized, folder, tmp_path / "second", **options)

    manifest = Artifact.open(tmp_path / "second").manifest
    assert [(graph.precision, graph.batching, graph.providers) for graph in manifest.graphs] == [
        ("int8", "packed", ("cpu",))
    ]
    assert report.graphs[0].fidelity.max_abs_logit_difference == 0.0
    asked = make_pairs(20, seed=3)
    np.testing.assert_array_equal(scores(tmp_path / "first", asked, "int8"), scores(tmp_path / "second", asked, "int8"))
    with pytest.raises(InvalidInputError, match="stored in int8, from which only int8"):
        import_onnx(quantized, folder, tmp_path / "third", precisions=["fp32"], **options)


def test_a_float16_file_is_fp16(file, folder, pairs, tmp_path):
    options = {"verification_pairs": pairs, "min_kendall_tau": LOOSE}
    import_onnx(file, folder, tmp_path / "first", precisions=["fp16"], **options)

    import_onnx(tmp_path / "first" / "fp16.onnx", folder, tmp_path / "second", **options)

    (graph,) = Artifact.open(tmp_path / "second").manifest.graphs
    assert (graph.precision, graph.providers) == ("fp16", ("cuda",))


def test_weights_beside_the_file_come_along(file, folder, pairs, tmp_path):
    beside = tmp_path / "beside" / "model.onnx"
    beside.parent.mkdir()
    onnx.save(onnx.load(file), beside, save_as_external_data=True, location="model.onnx_data", size_threshold=1024)

    import_onnx(beside, folder, tmp_path / "one", verification_pairs=pairs)
    import_onnx(beside, folder, tmp_path / "two", verification_pairs=pairs, external_data_from=1000)

    one, two = Artifact.open(tmp_path / "one").manifest, Artifact.open(tmp_path / "two").manifest
    assert set(one.source.weights_sha256) == {"model.onnx", "model.onnx_data"}
    assert (one.graphs[0].external_data, two.graphs[0].external_data) == ((), ("fp32.onnx.data",))
    assert one.graphs[0].reference_logits == two.graphs[0].reference_logits

    (beside.parent / "model.onnx_data").unlink()
    with pytest.raises(UnsupportedCheckpointError, match=r"model\.onnx_data"):
        import_onnx(beside, folder, tmp_path / "three", verification_pairs=pairs)


def test_weights_outside_the_files_folder_are_refused(file, folder, pairs, tmp_path):
    model = onnx.load(file)
    (tmp_path / "secret").write_bytes(b"\0" * 10_000)
    tensor = next(tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 4096)
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    tensor.external_data.add(key="length", value=str(size))
    onnx.save(model, file)
    with pytest.raises(UnsupportedCheckpointError, match="cannot be read"):
        import_onnx(file, folder, tmp_path / "out", verification_pairs=pairs)


def test_two_imports_are_equal_byte_for_byte(file, folder, pairs, tmp_path):
    options = {"precisions": ["fp32", "int8"], "verification_pairs": pairs, "min_kendall_tau": LOOSE}
    for name in ("first", "second"):
        import_onnx(file, folder, tmp_path / name, **options)
    assert folder_bytes(tmp_path / "first") == folder_bytes(tmp_path / "second")


def test_without_a_configuration_the_length_must_be_stated(file, folder, pairs, tmp_path):
    alone = tmp_path / "tokenizer"
    alone.mkdir()
    shutil.copy(folder / "tokenizer.json", alone)
    with pytest.raises(UnsupportedCheckpointError, match="--max-length"):
        import_onnx(file, alone, tmp_path / "out", verification_pairs=pairs)

    report = import_onnx(file, alone, tmp_path / "out", verification_pairs=pairs, max_length=MAX_LENGTH)

    assert any("sigmoid" in note for note in report.notes)
    asked = make_pairs(20, seed=3)
    expected = transformers_logits(folder, asked, max_length=MAX_LENGTH)[:, 0]
    np.testing.assert_allclose(scores(tmp_path / "out", asked), expected, atol=1e-4, rtol=0)
    manifest = Artifact.open(tmp_path / "out").manifest
    assert manifest.architecture.model_type == "unknown"
    assert manifest.name == "tokenizer"


def test_two_labels_are_seen_in_the_graph(tiny_checkpoint, raw_graph, pairs, tmp_path):
    folder = tiny_checkpoint("bert", num_labels=2)
    model = raw_graph("bert", num_labels=2)
    model.graph.output[0].type.tensor_type.shape.dim[1].ClearField("dim_value")
    onnx.save(model, tmp_path / "model.onnx")
    alone = tmp_path / "tokenizer"
    alone.mkdir()
    shutil.copy(folder / "tokenizer.json", alone)

    import_onnx(
        tmp_path / "model.onnx", alone, tmp_path / "out", verification_pairs=pairs, max_length=64, positive_label=0
    )

    manifest = Artifact.open(tmp_path / "out").manifest
    assert (manifest.num_labels, manifest.positive_label) == (2, 0)
    asked = make_pairs(10, seed=3)
    logits = transformers_logits(folder, asked, max_length=MAX_LENGTH)
    np.testing.assert_allclose(scores(tmp_path / "out", asked), logits[:, 0] - logits[:, 1], atol=1e-4, rtol=0)


def mean_of_embeddings(*, masked: bool, output: str = "logits", kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A graph that averages one number a token, over the tokens that are there or over all columns."""
    table = np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
    ]
    if masked:
        nodes += [
            helper.make_node("Mul", ["tokens", "column"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "middle"], ["total"], keepdims=0),
            helper.make_node("ReduceSum", ["column", "middle"], ["count"], keepdims=0),
            helper.make_node("Div", ["total", "count"], ["mean"]),
        ]
    else:
        nodes.append(helper.make_node("ReduceMean", ["tokens"], ["mean"], axes=[1], keepdims=0))
    nodes.append(helper.make_node("Cast", ["mean"], [output], to=kind))
    shape = ["batch", "sequence"]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info(output, kind, ["batch", 1])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_graph_of_no_known_kind_is_served_if_it_minds_its_mask(folder, pairs, tmp_path):
    onnx.save(mean_of_embeddings(masked=True, output="score"), tmp_path / "mean.onnx")
    report = import_onnx(tmp_path / "mean.onnx", folder, tmp_path / "out", verification_pairs=pairs)
    assert report.graphs[0].fidelity.max_abs_logit_difference <= 1e-4


def test_a_graph_that_minds_no_mask_is_found_out(folder, pairs, tmp_path):
    onnx.save(mean_of_embeddings(masked=False), tmp_path / "mean.onnx")
    with pytest.raises(FidelityError, match=r"fp32 against self.*MISSED"):
        import_onnx(tmp_path / "mean.onnx", folder, tmp_path / "out", verification_pairs=pairs)
    assert left_in(tmp_path) == ["mean.onnx"]


def _rename_input(model):
    model.graph.input[0].name = "pixels"


def _fixed_shape(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 128


def _float_input(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def _a_row_of_all_pairs(model):
    source = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Transpose", [source], ["row"], perm=[1, 0]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("row", TensorProto.FLOAT, [1, "batch"]))


def _second_output(model):
    model.graph.output.add().CopyFrom(helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["b", "s", 8]))


def _three_labels(model):
    source = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Concat", [source] * 3, ["three"], axis=1))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("three", TensorProto.FLOAT, ["batch", 3]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_rename_input, "pixels"),
        (_fixed_shape, r"\[batch_size, 128\], a fixed shape"),
        (_float_input, "expected integers"),
        (_a_row_of_all_pairs, r"expected floats \[batch, labels\]"),
        (_second_output, "hidden.*one output"),
        (_three_labels, "3 labels"),
    ],
)
def test_graphs_that_are_no_rerankers(spoil, message, raw_graph, folder, pairs, tmp_path):
    model = raw_graph("bert")
    spoil(model)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UnsupportedCheckpointError, match=message):
        import_onnx(tmp_path / "model.onnx", folder, tmp_path / "out", verification_pairs=pairs)
    assert left_in(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no ONNX file"),
        (b"", "no nodes"),
        (b"PK\x03\x04 no protobuf", "cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_files_that_are_no_models(content, message, folder, pairs, tmp_path):
    path = tmp_path / "files" / "model.onnx"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnsupportedCheckpointError, match=message):
        import_onnx(path, folder, tmp_path / "out", verification_pairs=pairs)
    assert left_in(tmp_path) == ["files"]


def test_folders_that_are_no_tokenizers(file, pairs, tmp_path):
    with pytest.raises(UnsupportedCheckpointError, match="no tokenizer folder"):
        import_onnx(file, tmp_path / "nowhere", tmp_path / "out", verification_pairs=pairs)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnsupportedCheckpointError, match="no fast tokenizer"):
        import_onnx(file, tmp_path / "empty", tmp_path / "out", verification_pairs=pairs)


@pytest.mark.parametrize("auto_map", [{"AutoTokenizer": ["t.T", None]}, ["t.T", None]])
def test_a_tokenizer_that_is_code_of_its_own_is_refused(auto_map, file, folder, pairs, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = json.loads((copy / "tokenizer_config.json").read_text(encoding="utf-8"))
    (copy / "tokenizer_config.json").write_text(json.dumps(settings | {"auto_map": auto_map}), encoding="utf-8")
    with pytest.raises(UnsupportedCheckpointError, match=r"code of its own, which an import does not run.*auto_map"):
        import_onnx(file, copy, tmp_path / "out", verification_pairs=pairs)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "caf\udce9"])
def test_a_name_no_manifest_holds_is_refused_at_once(name, file, folder, tmp_path):
    with pytest.raises(InvalidInputError, match="name="):
        import_onnx(file, folder, tmp_path / "out", name=name)


def test_an_existing_target_is_kept(file, folder, pairs, tmp_path):
    import_onnx(file, folder, tmp_path / "out", verification_pairs=pairs)
    with pytest.raises(ArtifactError, match="--force"):
        import_onnx(file, folder, tmp_path / "out", verification_pairs=pairs)
    import_onnx(file, folder, tmp_path / "out", verification_pairs=pairs, force=True, activation="identity")
    assert Artifact.open(tmp_path / "out").manifest.activation == "identity"


@pytest.mark.parametrize("module", ["onnx", "sympy"])
def test_without_a_package_of_the_extra(file, folder, pairs, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"{module}.*pip install 'crossrank\[onnx\]'"):
        import_onnx(file, folder, tmp_path / "out", verification_pairs=pairs)


def test_an_exports_own_graph_can_be_imported_again(folder, pairs, tmp_path):
    """A pruned and fused graph goes through the passes a second time unharmed."""
    export(folder, tmp_path / "first", precisions=["fp32"], verification_pairs=pairs)
    import_onnx(tmp_path / "first" / "fp32.onnx", folder, tmp_path / "second", verification_pairs=pairs)
    asked = make_pairs(20, seed=3)
    np.testing.assert_allclose(scores(tmp_path / "first", asked), scores(tmp_path / "second", asked), atol=1e-5, rtol=0)
    assert json.loads((tmp_path / "second" / "manifest.json").read_text())["source"]["id"] == "fp32.onnx"
