"""`crossrank models`: the names that can be given for a model."""

import json

from crossrank.models.artifact import Artifact
from crossrank.models.catalogue import load_catalogue
from crossrank.models.embedded import EMBEDDED_MODELS, embedded_artifact


def test_people_get_a_line_for_each_model_the_embedded_ones_first(crossrank):
    result = crossrank("models")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["name", "repository"]
    for name, line in zip(EMBEDDED_MODELS, lines[1:], strict=False):
        layers = Artifact.open(embedded_artifact(name)).manifest.architecture.num_hidden_layers
        assert line.split()[:4] == [name, "(embedded,", str(layers), "layers)"]
    for entry in load_catalogue():
        assert any(line.split()[:1] == [entry.name] for line in lines), entry.name
    assert "pip install 'crossrank[cpu,export]'" in result.stdout


def test_programs_get_every_field(crossrank):
    result = crossrank("models", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    printed = json.loads(result.stdout)
    assert [item["name"] for item in printed] == [entry.name for entry in load_catalogue()]
    assert printed == [entry.model_dump(mode="json") for entry in load_catalogue()]
