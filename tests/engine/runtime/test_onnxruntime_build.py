"""The onnxruntime that is installed: none, one of two builds, both, or what an uninstall left."""

import importlib.metadata
import sys
import types

import pytest
from fresh_python import run_python

from crossrank.engine.runtime import onnxruntime_build as runtime_build
from crossrank.engine.runtime.onnxruntime_build import installed_builds, load_onnxruntime
from crossrank.errors import MissingDependencyError

BLOCK = """
import sys
sys.modules["onnxruntime"] = None
"""


@pytest.fixture
def distributions(monkeypatch):
    """Pretend which distributions are installed."""

    def pretend(*names):
        def version(name):
            if name in names:
                return "1.0"
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", version)
        runtime_build._warn_of_both_builds.cache_clear()

    yield pretend
    runtime_build._warn_of_both_builds.cache_clear()


@pytest.mark.parametrize("names", [(), ("onnxruntime",), ("onnxruntime-gpu",), ("onnxruntime", "onnxruntime-gpu")])
def test_builds_are_recognised_by_their_distributions(distributions, names):
    distributions(*names, "numpy")
    assert installed_builds() == names


def test_two_installed_builds_give_one_warning_with_the_fix(distributions, recwarn):
    distributions("onnxruntime", "onnxruntime-gpu")
    with pytest.warns(RuntimeWarning, match="both installed.*pip uninstall -y onnxruntime onnxruntime-gpu"):
        load_onnxruntime()
    recwarn.clear()
    load_onnxruntime()
    assert len(recwarn) == 0


def test_one_installed_build_gives_no_warning(distributions, recwarn):
    distributions("onnxruntime-gpu")
    load_onnxruntime()
    assert len(recwarn) == 0


@pytest.mark.parametrize("left", [None, types.ModuleType("onnxruntime")], ids=["nothing", "an empty folder"])
def test_without_onnxruntime_the_error_names_both_extras(monkeypatch, left, reranker):
    monkeypatch.setitem(sys.modules, "onnxruntime", left)
    with pytest.raises(MissingDependencyError, match=r"crossrank\[cpu\].*crossrank\[gpu\]"):
        reranker()


@pytest.mark.parametrize("version", ["1.22.0", "1.28.0", "1.29.0"])
def test_a_version_whose_packed_runs_end_the_process_is_refused_with_the_one_to_install(version, monkeypatch, reranker):
    monkeypatch.setattr("onnxruntime.__version__", version)
    with pytest.raises(MissingDependencyError, match=rf"{version} is installed, 1\.30 .*onnxruntime>=1\.30"):
        reranker()


@pytest.mark.parametrize("version", ["1.30.0", "1.33.0.dev20260101", "built by hand"])
def test_any_later_version_is_taken(version, monkeypatch):
    monkeypatch.setattr("onnxruntime.__version__", version)
    assert load_onnxruntime().__version__ == version


def test_without_onnxruntime_all_but_scoring_works(tiny_artifact):
    code = (
        BLOCK
        + """
from typer.testing import CliRunner
import crossrank
from crossrank.cli.app import app
for arguments in (["--help"], ["rerank", "--help"], ["models"], ["models", "--json"], ["inspect", sys.argv[1]]):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    assert result.stdout
for arguments in (["rerank", "-q", "who", "-m", sys.argv[1], sys.argv[2]], ["inspect", "--check", sys.argv[1]]):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1, (arguments, result.output)
    assert result.stderr.count("\\n") == 1 and "crossrank[cpu]" in result.stderr, result.stderr
try:
    crossrank.Reranker(sys.argv[1])
except ImportError as error:
    assert "crossrank[cpu]" in str(error) and "crossrank[gpu]" in str(error)
else:
    raise AssertionError("made a reranker")
"""
    )
    run_python(code, tiny_artifact, tiny_artifact / "manifest.json")
