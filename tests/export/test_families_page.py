"""docs/families.md says what exports, catalogue and refusals are, and what it keeps of exports is what passes do."""

from __future__ import annotations

import importlib.metadata
import json
import re

import families_page
import pytest
from export_cases import HAS_OPTIMUM
from tiny_checkpoints import FAMILIES

from crossrank.export.checkpoint.checkpoint import SUPPORTED
from crossrank.models.catalogue import load_catalogue
from crossrank.models.embedded import EMBEDDED_MODELS

pytest.importorskip("torch")

ROWS = json.loads(families_page.MEASURED.read_text(encoding="utf-8"))


def test_the_page_is_up_to_date():
    kept = families_page.PAGE.read_text(encoding="utf-8")
    assert families_page.page() == kept, "run: python tests/support/families_page.py"


def test_every_family_is_on_it_with_each_exporter_and_every_fp32_graph_is_the_references():
    for exporter in families_page.EXPORTERS:
        kept = {row["subject"]: row for row in ROWS["rows"] if row["exporter"] == exporter}
        assert set(kept) == set(families_page.subjects(exporter))
    # CamemBERT is RoBERTa under another name, which a test of its own exports.
    assert set(FAMILIES) == SUPPORTED - {"camembert"}
    for row in ROWS["rows"]:
        assert "refused" in row or row["precision"] != "fp32" or row["difference"] <= 1e-4


def test_models_named_in_the_chart_are_models():
    text = families_page.PAGE.read_text(encoding="utf-8")
    chart = text.partition("```\n")[2].partition("```")[0]
    known = {entry.name for entry in load_catalogue()} | set(EMBEDDED_MODELS)
    named = set(re.findall(r"\b[\w.]+(?:-[\w.]+)*(?:-v\d|-m3|-base|-large|-small)\b", chart))
    assert named
    assert named <= known


@pytest.mark.skipif(
    importlib.metadata.version("transformers").split(".")[0] != ROWS["versions"]["transformers"].split(".")[0],
    reason="what is kept was made beside another transformers",
)
@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_of_a_family_is_what_its_passes_do(family, precision, exported_graph):
    _, records = exported_graph(family, precision)
    found = families_page.pass_facts({name: record.model_dump() for name, record in records.items()})
    exporter = "optimum" if HAS_OPTIMUM else "torch"
    (kept,) = [
        row
        for row in ROWS["rows"]
        if (row["subject"], row["exporter"], row.get("precision")) == (family, exporter, precision)
    ]
    assert found == {key: kept[key] for key in found}, "run: python tests/support/families_page.py --measure"
