"""A contender for tests: scores are lengths, and options make it fail where a test wants it to."""

from __future__ import annotations

import os
import sys
import time

PACKAGES = ("no-such-package",)
SCALE = "logit"


def load(**options):
    if options.get("fail") == "load":
        raise ValueError("cannot read the weights")
    sys.stdout.write("a library that prints to standard output\n")
    os.write(1, b"and one that writes past Python\n")

    def score(query, documents):
        if options.get("fail") == "score":
            raise KeyError("ids")
        if options.get("fail") == "die":
            sys.stderr.write("out of memory\n")
            os._exit(7)
        time.sleep(options.get("sleep", 0))
        return [len(query) + len(document) for document in documents]

    return score
