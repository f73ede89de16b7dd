"""The embedded model: its folder, and the error if it is missing."""

from pathlib import Path

import pytest

from crossrank.errors import ArtifactError
from crossrank.models import embedded
from crossrank.models.artifact import Artifact
from crossrank.models.embedded import default_artifact

SHIPPED = Path(embedded.__file__).parent / "default" / "artifact"


def test_an_installation_without_it_says_how_to_fix_that(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "__file__", str(tmp_path / "embedded.py"))
    with pytest.raises(ArtifactError, match=r"embedded model is missing.*install crossrank again"):
        default_artifact()


@pytest.mark.skipif(not SHIPPED.exists(), reason="the embedded model has not been exported")
def test_the_shipped_artifact_is_whole_and_serves_both_providers():
    opened = Artifact.open(default_artifact())
    opened.verify()
    assert opened.find_graph("int8", "cpu") is not None
    assert opened.find_graph("fp16", "cuda") is not None
    assert opened.manifest.reference_pairs
    assert opened.manifest.source.licence
    assert opened.manifest.activation == "identity"
