"""Cross-encoders of several modules as sentence-transformers 6 saves them: Transformer, Pooling, Dense, LayerNorm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from export_cases import HAS_OPTIMUM, write_pairs
from tiny_checkpoints import MAX_LENGTH, make_pairs
from tiny_modules import ETTIN, scores_of_modules, write_json, write_modules

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import FidelityError, UnsupportedCheckpointError
from crossrank.export import export
from crossrank.export.checkpoint.checkpoint import read_checkpoint
from crossrank.export.checkpoint.head_modules import ACTIVATIONS
from crossrank.models.artifact import Artifact

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

LONG = [
    ("the river", "the river carries cold water " * 40),
    ("", ""),
    ("every reader", "a"),
    ("a", "long letters " * 30),
]


@pytest.fixture(scope="module")
def ettin(tiny_checkpoint, tmp_path_factory) -> Path:
    return write_modules(tiny_checkpoint("modernbert"), tmp_path_factory.mktemp("modules") / "ettin")


@pytest.fixture
def copy(ettin, tmp_path) -> Path:
    return Path(shutil.copytree(ettin, tmp_path / "copy"))


def bring(folder: Path, tmp_path: Path, **options):
    return export(
        folder,
        tmp_path / "artifact",
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
        # Random weights rank at random, so eight bits move more than they do in a trained model.
        min_kendall_tau=0.5,
        **options,
    )


def assert_scores(artifact: Path, folder: Path, precision: str = "fp32", tolerance: float = 1e-4) -> None:
    """Alone, in padded batches of all lengths, and of documents that are too long."""
    pairs = [*make_pairs(24, seed=11), *LONG]
    expected = scores_of_modules(folder, pairs, max_length=MAX_LENGTH)[:, 0]
    assert np.std(expected) > 0.1, "logits that hardly differ would prove nothing"
    for options in ({"max_batch_tokens": 1}, {}):
        with ArtifactReranker(
            artifact, provider="cpu", precision=precision, activation="identity", **options
        ) as reranker:
            np.testing.assert_allclose(reranker.score_pairs(pairs), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_ettin_form_scores_as_its_modules_do_in_every_precision(pooling, tiny_checkpoint, tmp_path):
    folder = write_modules(tiny_checkpoint("modernbert"), tmp_path / "saved", pooling=pooling)
    report = bring(folder, tmp_path)

    manifest = Artifact.open(report.artifact).manifest
    assert (manifest.num_labels, manifest.activation, manifest.max_length) == (1, "identity", MAX_LENGTH)
    assert set(manifest.source.weights_sha256) == {
        "model.safetensors",
        "2_Dense/model.safetensors",
        "3_LayerNorm/model.safetensors",
        "4_Dense/model.safetensors",
    }
    assert_scores(report.artifact, folder)
    assert_scores(report.artifact, folder, "int8", 0.25)
    for graph in report.graphs:
        # The last layer may be computed for one token only where one token is all that is read.
        assert {record.name: record.changed for record in graph.passes}["prune-last-layer"] == (pooling == "cls")


@pytest.mark.parametrize(("pooling", "family"), [("cls", "bert"), ("mean", "xlm-roberta"), ("cls", "deberta-v2")])
def test_modules_around_other_families(pooling, family, tiny_checkpoint, tmp_path):
    folder = write_modules(tiny_checkpoint(family), tmp_path / "saved", pooling=pooling)
    report = bring(folder, tmp_path, precisions=["fp32"])
    assert "numpy" in report.verification.reference or "CrossEncoder.predict" in report.verification.reference
    assert_scores(report.artifact, folder)


@pytest.mark.skipif(not HAS_OPTIMUM, reason="the other exporter is the one of all the other tests")
def test_the_exporter_of_torch_follows_modules_as_well(tiny_checkpoint, tmp_path):
    folder = write_modules(tiny_checkpoint("distilbert"), tmp_path / "saved", pooling="mean")
    report = bring(folder, tmp_path, precisions=["fp32"], exporter="torch")
    assert_scores(report.artifact, folder)


def test_every_activation_and_the_form_without_a_norm(tiny_checkpoint, tmp_path):
    paths = [f"torch.nn.modules.{'linear' if name == 'Identity' else 'activation'}.{name}" for name in ACTIVATIONS]
    folder = write_modules(
        tiny_checkpoint("distilbert"),
        tmp_path / "saved",
        kinds=("Pooling", "Dropout", *("Dense" for _ in ACTIVATIONS), "Dense"),
        activations=paths,
        scale=3.0,
    )
    assert [module.activation for module in read_checkpoint(folder).head[1:-1]] == [*ACTIVATIONS]
    report = bring(folder, tmp_path, precisions=["fp32"])
    assert_scores(report.artifact, folder)


def test_the_former_names_of_poolings_are_read(copy):
    config = {"word_embedding_dimension": 64, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    write_json(copy / "1_Pooling" / "config.json", config)
    assert read_checkpoint(copy).head[0].pooling == "mean"


def test_a_head_of_three_labels_is_scored_by_the_one_that_is_named(tiny_checkpoint, tmp_path):
    folder = write_modules(tiny_checkpoint("bert"), tmp_path / "saved", labels=3)
    with pytest.raises(UnsupportedCheckpointError, match=r"3 labels.*--positive-label"):
        read_checkpoint(folder)
    report = bring(folder, tmp_path, precisions=["fp32"], positive_label=2)
    pairs = make_pairs(12, seed=3)
    weights = np.exp(scores_of_modules(folder, pairs, max_length=MAX_LENGTH).astype(np.float64))
    with ArtifactReranker(report.artifact, provider="cpu", precision="fp32") as reranker:
        np.testing.assert_allclose(reranker.score_pairs(pairs), weights[:, 2] / weights.sum(axis=1), atol=1e-5, rtol=0)


def change(folder: Path, file: str, **values: object) -> None:
    path = folder / file
    content = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, content | values)


def retype(folder: Path, index: int, kind: str) -> None:
    entries = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    entries[index]["type"] = kind
    write_json(folder / "modules.json", entries)


REFUSED = {
    "an unknown module": (
        lambda folder: retype(folder, 3, "sentence_transformers.base.modules.normalize.Normalize"),
        r"does not know sentence_transformers.base.modules.normalize.Normalize",
    ),
    "code of the checkpoint's own": (
        lambda folder: retype(folder, 3, "my_modules.LayerNorm"),
        r"does not know my_modules.LayerNorm",
    ),
    "a pooling it has not": (
        lambda folder: change(folder, "1_Pooling/config.json", pooling_mode="lasttoken"),
        r"1_Pooling/config.json.*'lasttoken'; crossrank has cls and mean",
    ),
    "two poolings at once": (
        lambda folder: change(folder, "1_Pooling/config.json", pooling_mode=["cls", "mean"]),
        r"pooling_mode \['cls', 'mean'\]",
    ),
    "an activation it has not": (
        lambda folder: change(folder, "2_Dense/config.json", activation_function="torch.nn.modules.activation.ELU"),
        r"2_Dense/config.json.*activation.ELU'; crossrank has Identity",
    ),
    "an activation of the checkpoint's own": (
        lambda folder: change(folder, "2_Dense/config.json", activation_function="my_code.GELU"),
        r"'my_code.GELU'; crossrank has",
    ),
    "a residual": (lambda folder: change(folder, "2_Dense/config.json", use_residual=True), "use_residual"),
    "a Dense over tokens": (
        lambda folder: change(folder, "2_Dense/config.json", module_input_name="token_embeddings"),
        "from 'token_embeddings' to",
    ),
    "no scores at the end": (
        lambda folder: change(folder, "4_Dense/config.json", module_output_name="sentence_embedding"),
        "module_output_name is 'scores'",
    ),
    "scores before the end": (
        lambda folder: change(folder, "2_Dense/config.json", module_output_name="scores"),
        r"2_Dense/config.json.*gives 'scores' and is not the last module",
    ),
    "sizes that do not fit": (
        lambda folder: change(folder, "3_LayerNorm/config.json", dimension=32),
        r"takes 32 numbers a pair, and 64 come",
    ),
    "no size": (lambda folder: change(folder, "3_LayerNorm/config.json", dimension="many"), "the size 'many'"),
    "no weights": (lambda folder: (folder / "4_Dense" / "model.safetensors").unlink(), "4_Dense.*is not there"),
    "a folder elsewhere": (
        lambda folder: write_json(
            folder / "modules.json",
            [
                entry | {"path": entry["path"] and f"../{entry['path']}"}
                for entry in json.loads((folder / "modules.json").read_text(encoding="utf-8"))
            ],
        ),
        "the name of a folder expected",
    ),
    "another task": (
        lambda folder: change(folder, "sentence_bert_config.json", transformer_task="sequence-classification"),
        "transformer_task 'sequence-classification'",
    ),
    "a model that embeds": (
        lambda folder: change(folder, "config_sentence_transformers.json", model_type="SentenceTransformer"),
        "no CrossEncoder.*'SentenceTransformer'",
    ),
    "no pooling": (
        lambda folder: write_json(
            folder / "modules.json",
            [
                entry
                for entry in json.loads((folder / "modules.json").read_text(encoding="utf-8"))
                if "Pooling" not in entry["type"]
            ],
        ),
        "one Pooling, first of them",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_does_not_compute_is_refused_by_name(case, copy):
    spoil, message = REFUSED[case]
    spoil(copy)
    with pytest.raises(UnsupportedCheckpointError, match=message):
        read_checkpoint(copy)


def test_weights_of_another_shape_are_refused(copy, tmp_path):
    shutil.copy(copy / "2_Dense" / "model.safetensors", copy / "4_Dense" / "model.safetensors")
    with pytest.raises(UnsupportedCheckpointError, match=r"4_Dense.*has not the weights of a Dense from 64 to 1"):
        bring(copy, tmp_path, precisions=["fp32"])
    assert not (tmp_path / "artifact").exists()


def test_a_graph_that_misreads_a_module_is_found_out(ettin, tmp_path, monkeypatch):
    """The reference reads the modules by itself, so what the export gets wrong shows."""
    import torch

    monkeypatch.setattr(torch.nn, "GELU", torch.nn.ReLU)
    with pytest.raises(FidelityError):
        bring(ettin, tmp_path, precisions=["fp32"])


@pytest.mark.parametrize("activation", ["torch.nn.modules.activation.GELU", "torch.nn.GELU"])
def test_the_reference_reads_as_torch_computes(activation, copy):
    """Without sentence-transformers the modules are computed in numpy; they are what torch makes of them."""
    from crossrank.export.checkpoint.torch_model import load_transformer
    from crossrank.export.verify.head_by_numpy import HeadByNumpy
    from crossrank.export.verify.reference import TorchReference

    change(copy, "2_Dense/config.json", activation_function=activation)
    checkpoint = read_checkpoint(copy)
    reference = TorchReference(
        checkpoint, HeadByNumpy(load_transformer(checkpoint, for_export=False), checkpoint.folder)
    )
    pairs = make_pairs(9, seed=4)
    expected = scores_of_modules(copy, pairs, max_length=MAX_LENGTH)[:, 0]
    np.testing.assert_allclose(reference.logits(pairs, batch_size=4), expected, atol=1e-5, rtol=0)


def test_the_layout_is_the_libraries(ettin, tmp_path):
    """Folders that these tests write are those that sentence-transformers writes, and it reads them."""
    sentence_transformers = pytest.importorskip("sentence_transformers", minversion="6")
    torch = pytest.importorskip("torch")
    model = sentence_transformers.CrossEncoder(str(ettin), device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    for name in ("modules.json", *(f"{index}_{kind}/config.json" for index, kind in enumerate(ETTIN, start=1))):
        ours, theirs = (
            json.loads((folder / name).read_text(encoding="utf-8")) for folder in (ettin, tmp_path / "saved")
        )
        assert ours == theirs, name
    pairs = make_pairs(20, seed=13)
    expected = model.predict(pairs, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(
        scores_of_modules(ettin, pairs, max_length=MAX_LENGTH)[:, 0], expected, atol=1e-5, rtol=0
    )
