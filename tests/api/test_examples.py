"""The examples show what they say they show."""

from pathlib import Path

from fresh_python import run_python

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_caller_of_the_async_example_gives_up():
    output = run_python((EXAMPLES / "async_service.py").read_text(encoding="utf-8"))
    assert "gave up, 2000 documents were not all scored" in output
    assert "13 requests" in output
