"""`crossrank models`: the names that can be given for a model."""

import json

from crossrank.models.catalogue import load_catalogue


def test_people_get_a_line_for_each_model_the_embedded_one_first(crossrank):
    result = crossrank("models")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["name", "repository"]
    assert lines[1].split()[0] == "default"
    for entry in load_catalogue():
        assert any(line.split()[:1] == [entry.name] for line in lines), entry.name
    assert "pip install 'crossrank[cpu,export]'" in result.stdout


def test_programs_get_every_field(crossrank):
    result = crossrank("models", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    printed = json.loads(result.stdout)
    assert [item["name"] for item in printed] == [entry.name for entry in load_catalogue()]
    assert printed == [entry.model_dump(mode="json") for entry in load_catalogue()]
