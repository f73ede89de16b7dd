"""The embedded models: their folders, what they share, and the error if one is missing."""

from pathlib import Path

import pytest

from crossrank.errors import ArtifactError
from crossrank.models import embedded
from crossrank.models.artifact import Artifact
from crossrank.models.embedded import EMBEDDED_MODELS, embedded_artifact

CARDS = Path(embedded.__file__).parent


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_an_installation_without_one_says_how_to_fix_that(name, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_FOLDER", tmp_path)
    message = rf"(?s)embedded model '{name}' is missing.*install crossrank again.*'make {name}-model'"
    with pytest.raises(ArtifactError, match=message):
        embedded_artifact(name)


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_a_shipped_artifact_is_whole_and_says_what_it_is(name):
    opened = Artifact.open(embedded_artifact(name))
    opened.verify()
    assert opened.manifest.name == name
    assert opened.find_graph("int8", "cpu") is not None
    assert opened.manifest.reference_pairs
    assert opened.manifest.source.licence
    assert (opened.manifest.activation, opened.manifest.num_labels) == ("identity", 1)
    assert (CARDS / name / "README.md").is_file()


def test_the_default_model_serves_both_providers_and_its_companion_the_cpu():
    assert Artifact.open(embedded_artifact()).find_graph("fp16", "cuda") is not None
    (graph,) = Artifact.open(embedded_artifact("default-small")).manifest.graphs
    assert (graph.precision, graph.providers) == ("int8", ("cpu",))


def test_the_companion_has_two_layers_and_the_default_models_tokenizer_and_length():
    small, default = (Artifact.open(embedded_artifact(name)) for name in ("default-small", "default"))
    assert small.manifest.architecture.num_hidden_layers == 2
    assert small.manifest.max_length == default.manifest.max_length
    digests = [{record.path: record.sha256 for record in opened.manifest.files} for opened in (small, default)]
    assert digests[0]["tokenizer.json"] == digests[1]["tokenizer.json"]
