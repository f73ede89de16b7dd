"""The command line of crossrank.

`crossrank rerank | export | pull | inspect | models | self-check | evaluate | bench | bench-load |
tune-cascade`.
"""

from crossrank.cli.app import main

__all__ = ["main"]
