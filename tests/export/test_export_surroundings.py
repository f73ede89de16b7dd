"""Failures of disk, permissions, cache and network end an export inside the error hierarchy and name what to set."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest
from export_cases import write_pairs

from crossrank.errors import ArtifactError, CacheFolderError, CrossrankError, ExportError, ModelNotFoundError
from crossrank.export import export, import_onnx


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "pairs.jsonl")


def failing(number: int):
    def fail(*_args, **_options):
        raise OSError(number, os.strerror(number), "/somewhere")

    return fail


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENOTDIR])
def test_a_hub_cache_that_cannot_be_written_names_the_variables_that_move_it(number, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", failing(number))
    with pytest.raises(CacheFolderError, match=r"the hub's cache is .*HF_HOME .*HF_HUB_CACHE"):
        export("owner/name", tmp_path / "out")


def test_a_network_that_fails_names_proxy_mirror_and_folder(tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ModelNotFoundError, match=r"name resolution.*HTTPS_PROXY or HF_ENDPOINT.*name a folder"):
        export("owner/name", tmp_path / "out")


def test_a_folder_that_may_not_be_written_names_it_and_the_temporary_one(tiny_checkpoint, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("crossrank.export.assembly.write_tokenizer", failing(errno.EACCES))
    with pytest.raises(ExportError, match=r"write .*temporary folder .*TMPDIR"):
        export(tiny_checkpoint("bert"), tmp_path / "out", verification_pairs=pairs)


def test_no_temporary_folder_at_all_names_its_variable(tiny_checkpoint, pairs, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", fail)
    with pytest.raises(ExportError, match="set TMPDIR"):
        export(tiny_checkpoint("bert"), tmp_path / "out", verification_pairs=pairs)


def test_a_target_that_may_not_be_looked_at_is_an_artifact_error(tiny_checkpoint, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("os.path.lexists", failing(errno.EACCES))
    with pytest.raises(ArtifactError, match="cannot look at"):
        export(tiny_checkpoint("bert"), tmp_path / "out", verification_pairs=pairs)


@pytest.mark.parametrize("name", ["~nobody-of-that-name/checkpoint", "a" * 5000])
def test_paths_that_lead_nowhere_are_no_crash(name, tmp_path):
    with pytest.raises(CrossrankError):
        export(name, tmp_path / "out")
    with pytest.raises(CrossrankError):
        import_onnx(name, name, tmp_path / "out")
