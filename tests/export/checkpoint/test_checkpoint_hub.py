"""Checkpoints of the hub, against a small hub on this machine and against its cache."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_hub import COMMIT, HUB_ID, FakeHub

from crossrank.errors import ModelNotFoundError
from crossrank.export.checkpoint.checkpoint import read_checkpoint


@pytest.fixture
def repository(tiny_checkpoint, tmp_path):
    """The files of a hub repository: a checkpoint, with what a download should leave aside."""
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "repository"))
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    (folder / "onnx" / "model.safetensors").write_bytes(b"not this one")
    (folder / "pytorch_model.bin").write_bytes(b"nor this one")
    (folder / "modeling.py").write_text("raise SystemExit")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


@pytest.fixture
def hub(repository):
    hub = FakeHub(repository)
    yield hub
    hub.close()


def read_from(hub: FakeHub, home: Path, *, revision: str | None = None, hub_id: str = HUB_ID, trust: bool = False):
    """Read a checkpoint in a process of its own, because the hub's client reads its settings at import."""
    code = (
        "import json, sys\n"
        "from crossrank.export.checkpoint.checkpoint import read_checkpoint\n"
        "from crossrank.errors import CrossrankError\n"
        "try:\n"
        f"    checkpoint = read_checkpoint({hub_id!r}, revision={revision!r}, trust_remote_code={trust!r})\n"
        "    print(json.dumps({'source': checkpoint.source.model_dump(), 'folder': str(checkpoint.folder)}))\n"
        "except CrossrankError as error:\n"
        "    print(json.dumps({'error': type(error).__name__, 'message': str(error)}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=hub.environment(home), timeout=120
    )
    assert result.stderr == "", "a library prints nothing"
    return json.loads(result.stdout)


def test_a_hub_checkpoint_is_fetched_and_its_commit_kept(hub, tmp_path):
    reported = read_from(hub, tmp_path / "home")

    assert reported["source"]["kind"] == "hub"
    assert reported["source"]["id"] == HUB_ID
    assert reported["source"]["revision"] == COMMIT
    assert reported["source"]["licence"] == "mit"
    assert list(reported["source"]["weights_sha256"]) == ["model.safetensors"]
    assert "model.safetensors" in hub.fetched
    left_aside = {"pytorch_model.bin", "modeling.py", "onnx/config.json", "onnx/model.safetensors"}
    assert not left_aside & set(hub.fetched)

    hub.fetched.clear()
    read_from(hub, tmp_path / "home", revision="main")
    assert hub.fetched == [], "what is in the cache is not fetched again"


def test_a_checkpoint_that_is_refused_is_refused_before_its_weights_are_fetched(hub, repository, tmp_path):
    config = json.loads((repository / "config.json").read_text())
    (repository / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))

    reported = read_from(hub, tmp_path / "home")

    assert reported["error"] == "UnsupportedCheckpointError"
    assert "config.json" in hub.fetched
    assert "model.safetensors" not in hub.fetched


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_beside_the_weights_is_refused_the_first_time_too(file, hub, repository, tmp_path):
    (repository / file).write_text("{}")

    for time in ("first", "second"):
        reported = read_from(hub, tmp_path / "home")
        assert reported.get("error") == "UnsupportedCheckpointError", time
        assert "adapter" in reported["message"]
    assert ("model.safetensors" in hub.fetched) == (file == "adapter_model.safetensors"), "seen as early as can be"


def test_code_is_fetched_with_consent_alone(hub, tmp_path):
    read_from(hub, tmp_path / "home", trust=True)
    assert "modeling.py" in hub.fetched


def test_older_weights_are_fetched_where_there_are_no_safetensors(hub, repository, tmp_path):
    (repository / "model.safetensors").unlink()
    assert list(read_from(hub, tmp_path / "home")["source"]["weights_sha256"]) == ["pytorch_model.bin"]


def test_no_such_repository_and_no_such_revision(hub, tmp_path):
    reported = read_from(hub, tmp_path / "home", hub_id="nobody/nothing")
    assert reported["error"] == "ModelNotFoundError"
    assert "no such repository" in reported["message"]
    reported = read_from(hub, tmp_path / "home", revision="v9")
    assert reported["error"] == "ModelNotFoundError"
    assert "'v9'" in reported["message"]


def test_a_hub_out_of_reach(hub, tmp_path):
    hub.close()
    reported = read_from(hub, tmp_path / "home")
    assert reported["error"] == "ModelNotFoundError"


def _cache(repository: Path, root: Path) -> Path:
    """The hub client's cache with one repository in it."""
    folder = root / "models--someone--reranker"
    shutil.copytree(repository, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return root


def test_offline_the_cache_is_enough(repository, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(_cache(repository, tmp_path / "cache")))
    for only_local in (False, True):
        checkpoint = read_checkpoint(HUB_ID, local_files_only=only_local)
        assert (checkpoint.source.kind, checkpoint.source.revision) == ("hub", COMMIT)


def test_offline_and_not_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFoundError, match=r"hf download nobody/nothing"):
        read_checkpoint("nobody/nothing")


def test_a_folder_wins_over_a_hub_id(repository, tmp_path, monkeypatch):
    shutil.copytree(repository, tmp_path / "someone" / "reranker")
    monkeypatch.chdir(tmp_path)
    assert read_checkpoint(HUB_ID).source.kind == "local"
