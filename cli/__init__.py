"""The command line of crossrank: `crossrank rerank | export | inspect | models`."""

from crossrank.cli.app import main

__all__ = ["main"]
