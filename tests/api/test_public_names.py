"""What `import crossrank` provides, and what it neither loads nor changes."""

import pytest
from fresh_python import run_python

import crossrank

SCORE = """
import sys
from crossrank import Reranker
with Reranker(sys.argv[1], provider="cpu") as reranker:
    assert len(reranker.rank("who reads", ["the river", ""])) == 2
"""
EXPORT_LIBRARIES = ("torch", "transformers", "optimum", "onnx")


@pytest.mark.parametrize("name", crossrank.__all__)
def test_every_public_name_is_importable(name):
    assert getattr(crossrank, name) is not None
    assert name in dir(crossrank)


def test_other_names_are_refused_as_python_does():
    with pytest.raises(AttributeError, match="has no attribute 'Ranker'"):
        _ = crossrank.Ranker


def test_every_error_is_a_crossrank_error():
    for name in crossrank.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(crossrank, name), crossrank.CrossrankError)
    assert issubclass(crossrank.InvalidInputError, ValueError)
    assert issubclass(crossrank.MissingDependencyError, ImportError)
    assert issubclass(crossrank.TruncationWarning, UserWarning)


def test_the_version_is_that_of_the_distribution():
    import importlib.metadata

    assert crossrank.__version__ == importlib.metadata.version("crossrank")


def test_importing_loads_no_heavy_library():
    code = f"""
import sys
import crossrank
import crossrank.export
loaded = set(sys.modules) & {{"onnxruntime", "numpy", "tokenizers", "huggingface_hub", *{EXPORT_LIBRARIES!r}}}
assert not loaded, loaded
"""
    run_python(code)


def test_the_command_line_starts_without_any_heavy_library():
    code = f"""
import sys
import crossrank.cli
loaded = set(sys.modules) & {{"onnxruntime", "huggingface_hub", *{EXPORT_LIBRARIES!r}}}
assert not loaded, loaded
"""
    run_python(code)


def test_scoring_loads_nothing_of_the_export(tiny_artifact):
    code = f"""
loaded = set(sys.modules) & {{"huggingface_hub", "crossrank.export", *{EXPORT_LIBRARIES!r}}}
assert not loaded, loaded
assert "onnxruntime" in sys.modules
"""
    run_python(SCORE + code, tiny_artifact)


def test_logging_is_left_to_the_application(tiny_artifact):
    code = """
import logging
assert logging.getLogger().handlers == []
assert logging.getLogger().level == logging.WARNING
logger = logging.getLogger("crossrank")
assert [type(handler).__name__ for handler in logger.handlers] == ["NullHandler"]
assert logger.level == logging.NOTSET and logger.propagate
"""
    assert run_python(SCORE + code, tiny_artifact) == ""


@pytest.mark.parametrize("first", ["", "import onnxruntime\n"])
def test_nothing_is_sent_to_the_makers_of_onnxruntime(tiny_artifact, tmp_path, first):
    # Its telemetry would write an identifier and a queue of events into the user's cache folder, and start a thread.
    code = """
import os, pathlib, threading
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""
    if not first:
        code += "assert not list(pathlib.Path(os.environ['HOME']).rglob('*onnxruntime*'))\n"
    else:
        code = (
            "import onnxruntime\ncalls = []\n"
            "onnxruntime.disable_telemetry_events = lambda: calls.append(1)\n" + SCORE + "assert calls\n"
        )
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "CI": ""}
    run_python(first + SCORE + code, tiny_artifact, **home)


def test_a_user_may_allow_telemetry(tiny_artifact):
    code = "import os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '0'"
    run_python(f"import crossrank\n{code}", ORT_DISABLE_TELEMETRY="0")
