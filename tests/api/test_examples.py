"""What the examples mean to show happens."""

from pathlib import Path

from fresh_python import run_python

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_caller_of_the_async_example_gives_up():
    told = run_python((EXAMPLES / "async_service.py").read_text(encoding="utf-8"))
    assert "gave up, 2000 documents were not all scored" in told
    assert "13 requests" in told
