"""Two exporters make the graph of a checkpoint: which is taken, and that the second gives as good a graph as the first.

All families go through the second exporter where it is the only one: `make transformers-5`.
"""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from export_cases import LAYERS, transformers_logits, write_pairs
from graph_runs import make_feeds, session_of
from tiny_checkpoints import MAX_LENGTH, make_pairs

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import ExportError, InvalidInputError, MissingDependencyError
from crossrank.export import export
from crossrank.export.dependencies import require_export
from crossrank.export.graph.tools import count_operators
from crossrank.models.artifact import Artifact

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

BATCHES = ([9], [MAX_LENGTH], [1], [17, 17], [33, 5, 20, 33], [MAX_LENGTH, 2])


@pytest.fixture(scope="module")
def by_torch(tiny_checkpoint, tmp_path_factory):
    """The artifact that the torch exporter makes of the tiny BERT."""
    folder = tmp_path_factory.mktemp("by-torch")
    return export(
        tiny_checkpoint("bert"),
        folder / "out",
        exporter="torch",
        verification_pairs=write_pairs(folder / "pairs.jsonl"),
        min_kendall_tau=0.5,
    )


def test_the_torch_exporter_makes_every_precision_by_the_same_passes(by_torch, tiny_checkpoint):
    manifest = Artifact.open(by_torch.artifact).manifest
    assert {"onnxscript", "torch", "transformers"} <= set(manifest.library_versions)
    assert "optimum-onnx" not in manifest.library_versions
    assert {graph.precision: graph.batching for graph in manifest.graphs} == {
        "fp32": "padded",
        "int8": "packed",
        "fp16": "padded",
    }
    assert all(
        record.changed for graph in manifest.graphs for record in graph.passes if record.name != "cuda placement"
    )
    counts = count_operators(onnx.load(by_torch.artifact / "fp32.onnx").graph)
    assert (counts["Attention"], counts["Softmax"], counts["BiasGelu"]) == (1, 1, 2)

    pairs = make_pairs(24, seed=11)
    expected = transformers_logits(tiny_checkpoint("bert"), pairs, max_length=MAX_LENGTH)[:, 0]
    with ArtifactReranker(by_torch.artifact, provider="cpu", precision="fp32", activation="identity") as reranker:
        np.testing.assert_allclose(reranker.score_pairs(pairs), expected, atol=1e-4, rtol=0)


def test_a_graph_of_the_torch_exporter_gives_the_models_logits_for_any_batch_and_length(raw_graph, tiny_checkpoint):
    """DistilBERT chooses masked scores with Where, which BERT adds to; both pick from a table of positions."""
    import torch
    from transformers import AutoModelForSequenceClassification

    graph = raw_graph("distilbert", exporter="torch", layers=LAYERS)
    checkpoint = tiny_checkpoint("distilbert", layers=LAYERS)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).float().eval()
    session = session_of(graph)
    for seed, lengths in enumerate(BATCHES):
        feeds = make_feeds(graph, lengths, seed=seed)
        with torch.inference_mode():
            expected = model(**{name: torch.from_numpy(value) for name, value in feeds.items()}).logits.numpy()
        np.testing.assert_allclose(session.run(["logits"], feeds)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("missing", ["optimum.exporters.onnx", "optimum.exporters.onnx.model_configs"])
def test_the_first_exporter_that_is_installed_is_taken(missing, monkeypatch):
    """The second one is what fails in an optimum that is older than the installed transformers allows."""
    pytest.importorskip("optimum.exporters.onnx")
    assert require_export(None) == "optimum"
    monkeypatch.setitem(sys.modules, missing, None)
    assert require_export(None) == "torch"
    with pytest.raises(MissingDependencyError, match=r"exporter 'optimum' needs"):
        require_export("optimum")


@pytest.mark.parametrize(
    ("exporter", "module", "extra"),
    [("optimum", "optimum.exporters.onnx", "optimum"), ("torch", "onnxscript", "export")],
)
def test_an_exporter_that_is_not_installed_is_refused_when_it_is_named(
    exporter, module, extra, tiny_checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"exporter '{exporter}' needs .*crossrank\[{extra}\]"):
        export(tiny_checkpoint("bert"), tmp_path / "out", exporter=exporter)
    assert not list(tmp_path.iterdir())


def test_without_any_exporter_the_extra_that_brings_one_is_named(tiny_checkpoint, tmp_path, monkeypatch):
    for module in ("optimum.exporters.onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"onnxscript; install it with: pip install 'crossrank\[export\]'"):
        export(tiny_checkpoint("bert"), tmp_path / "out")


def test_a_name_that_is_no_exporter_is_refused(tiny_checkpoint, tmp_path):
    with pytest.raises(InvalidInputError, match=r"exporter='dynamo': one of optimum, torch expected"):
        export(tiny_checkpoint("bert"), tmp_path / "out", exporter="dynamo")


def test_a_failure_inside_the_torch_exporter_is_told_with_the_model(tiny_checkpoint, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError("no lowering for aten.unheard_of")

    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(ExportError, match=r"torch\.onnx failed to export .*bert.*no lowering for aten\.unheard_of"):
        export(tiny_checkpoint("bert"), tmp_path / "out", exporter="torch")
    assert not list(tmp_path.iterdir())
