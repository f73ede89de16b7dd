"""What the embedded model needs of its surroundings: nothing. What does need a folder says which variable to set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crossrank.errors import CacheFolderError, ModelNotFoundError
from crossrank.models.user_folders import user_folder
from crossrank.resolve import resolve_model

VARIABLES = ("HOME", "XDG_CACHE_HOME", "CROSSRANK_CACHE", "CROSSRANK_CALIBRATION", "USER", "LOGNAME", "TMPDIR")
HUB = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
NOBODY = """
import pwd
def nobody(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = nobody
"""
NO_TEMPORARY_FOLDER = """
import tempfile
def nowhere(*_, **__):
    raise FileNotFoundError("No usable temporary directory found")
tempfile._get_default_tempdir = nowhere
tempfile.tempdir = None
"""
SCORE = """
from crossrank import Reranker
with Reranker() as reranker:
    print(reranker.rank("who heats water", ["the river", "a boiler heats water"])[0].index)
"""


def run(code, folder="/", **environment):
    kept = {key: value for key, value in os.environ.items() if key not in (*VARIABLES, *HUB)}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | environment,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def a_file(tmp_path):
    """A path where no folder can be, whoever asks: tests may run as root, who may write anywhere."""
    path = tmp_path / "file"
    path.write_text("")
    return path


@pytest.fixture
def nobody(monkeypatch):
    """A user without HOME and without an entry in the password database."""
    import pwd

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in (*VARIABLES, *HUB):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def unwritable(a_file):
    return {name: str(a_file / "below") for name in VARIABLES[:4]}


def test_the_embedded_model_scores_for_a_user_without_a_home():
    assert run(NOBODY + SCORE) == "1"


def test_the_embedded_model_scores_where_no_folder_can_be_written(a_file):
    assert run(NO_TEMPORARY_FOLDER + SCORE, **unwritable(a_file)) == "1"


def test_the_embedded_model_scores_where_the_working_directory_is_gone(tmp_path):
    code = "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n" + SCORE
    assert run(code, str(tmp_path), HOME="/nonexistent") == "1"


CALIBRATE = """
from crossrank import CacheFolderError, Reranker
with Reranker(threads=1) as reranker:
    try:
        reranker.calibrate()
    except CacheFolderError as error:
        assert "set CROSSRANK_CALIBRATION to" in str(error), error
        reranker.rank("who", ["a b", "c d"])
        print("refused")
"""


@pytest.mark.parametrize("home", ["nobody", "unwritable"])
def test_a_fit_that_cannot_be_remembered_says_which_variable_to_set_and_the_reranker_goes_on(home, a_file):
    if home == "nobody":
        assert run(NOBODY + CALIBRATE) == "refused"
    else:
        assert run(CALIBRATE, **unwritable(a_file)) == "refused"


@pytest.fixture
def checkpoint(tmp_path):
    """A folder that looks like a checkpoint to everything but an exporter."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


def test_an_export_on_demand_without_a_home_says_which_variable_to_set(nobody, checkpoint, exports):
    for model in (checkpoint, "owner/name"):
        with pytest.raises(CacheFolderError, match="set CROSSRANK_CACHE to the full path"):
            resolve_model(model, provider="cpu")
    assert exports == []


@pytest.mark.parametrize("cache", ["", "below", "~unknown-user/cache"])
def test_an_export_on_demand_says_so_where_its_folder_cannot_be_written(
    monkeypatch, checkpoint, exports, a_file, cache
):
    monkeypatch.setenv("CROSSRANK_CACHE", cache if cache.startswith("~") else str(a_file / cache))
    for model in (checkpoint, "owner/name"):
        with pytest.raises(CacheFolderError, match="set CROSSRANK_CACHE to"):
            resolve_model(model, provider="cpu")
    assert exports == []


def test_a_folder_of_a_file_system_without_locks_is_refused(monkeypatch, checkpoint, exports, tmp_path):
    import filelock

    def unsupported(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setenv("CROSSRANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(filelock.FileLock, "acquire", unsupported)
    with pytest.raises(CacheFolderError, match=r"support flock.*set CROSSRANK_CACHE"):
        resolve_model(checkpoint, provider="cpu")
    assert exports == []


def test_an_export_that_is_there_needs_no_folder_that_can_be_written(monkeypatch, checkpoint, exports, tmp_path):
    monkeypatch.setenv("CROSSRANK_CACHE", str(tmp_path / "cache"))
    folder = resolve_model(checkpoint, provider="cpu")

    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    monkeypatch.setattr(Path, "write_text", read_only)
    assert resolve_model(checkpoint, provider="cpu") == folder
    assert len(exports) == 1


def test_without_a_home_nothing_of_the_hub_is_put_into_the_working_directory(nobody, monkeypatch, tmp_path):
    from crossrank.export.checkpoint.source import find_source

    monkeypatch.chdir(tmp_path)
    with pytest.raises(CacheFolderError, match="set HF_HOME to the full path"):
        find_source("owner/name")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_may_not_be_looked_at_is_refused_with_its_reason(monkeypatch, tmp_path):
    folder = tmp_path / "secret"

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", forbidden)
    for model in (folder, str(folder)):
        with pytest.raises(ModelNotFoundError, match=r"secret' cannot be read: Permission denied"):
            resolve_model(model)
    monkeypatch.undo()
    folder.mkdir()
    monkeypatch.setattr(Path, "is_file", forbidden)
    with pytest.raises(ModelNotFoundError, match=r"secret cannot be read: Permission denied"):
        resolve_model(folder)


def test_a_text_in_the_place_of_a_model_is_refused_as_such():
    with pytest.raises(ModelNotFoundError, match="no name of the catalogue"):
        resolve_model("a long text " * 500)


def test_a_folder_that_platformdirs_does_not_resolve_is_none(monkeypatch):
    monkeypatch.delenv("CROSSRANK_CACHE", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/crossrank")
    with pytest.raises(CacheFolderError, match=r"would be '~/\.cache/crossrank/exports'"):
        user_folder("exports", "CROSSRANK_CACHE")
