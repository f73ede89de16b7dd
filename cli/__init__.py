"""The command line of crossrank.

`crossrank rerank | export | pull | serve | inspect | report | models | self-check | evaluate | bench`.
"""

from crossrank.cli.app import main

__all__ = ["main"]
