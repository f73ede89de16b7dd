"""The examples show what they say they show."""

from pathlib import Path

from fresh_python import run_python

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_caller_of_the_async_example_gives_up():
    output = run_python((EXAMPLES / "async_service.py").read_text(encoding="utf-8"))
    assert "gave up after 50 ms" in output
    assert "12 requests" in output
