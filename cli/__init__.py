"""The command line of crossrank.

`crossrank rerank | export | pull | serve | inspect | report | models | self-check | evaluate | bench`.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the `crossrank` command."""
    # Imported here, because Ctrl-C may come while the modules of the commands are imported.
    try:
        from crossrank.cli.app import run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("crossrank: interrupted\n")
        sys.exit(130)
