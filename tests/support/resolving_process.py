"""A process that resolves models of a fake hub, call after call: huggingface-hub reads its settings at import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from fake_hub import FakeHub

_PROGRAM = """
import json, os, pathlib, sys
pairs, with_torch = sys.argv[1:]
if with_torch == "False":
    for name in ("torch", "transformers", "optimum"):
        sys.modules[name] = None
import crossrank.export.flow as flow
import crossrank.export.from_onnx as road
from crossrank.errors import CrossrankError
from crossrank.resolve import resolve_model
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = 1024  # what has come of a file is kept in such pieces
load_queries, import_onnx = flow.load_queries, road.import_onnx
imports = []
def counted(*arguments, **options):
    imports.append(arguments)
    return import_onnx(*arguments, **options)
flow.load_queries, road.import_onnx = lambda _: load_queries(pathlib.Path(pairs)), counted
for line in sys.stdin:
    home, call = json.loads(line)
    imports.clear()
    constants.HF_HUB_CACHE = f"{home}/hub"
    os.environ["CROSSRANK_CACHE"] = f"{home}/exports"
    try:
        answer = {"folder": str(resolve_model(provider="cpu", **call))}
    except CrossrankError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    answer["imports"] = len(imports)
    answer["torch"] = bool(sys.modules.get("torch"))
    print(json.dumps(answer), flush=True)
"""


_NOT_OURS = re.compile(
    # Some versions of huggingface-hub warn of downloads that break off, with the address on one line and what they do
    # on the next; the oldest transformers announces that it looks for files of still older ones.
    r"Error while downloading from http://127\.0\.0\.1:|Trying to resume download\.\.\.$|Max retries exceeded\.$"
    r"|The cache for model files in Transformers v4\.22\.0 has been updated\.|0it \[00:00, \?it/s\]$|$"
)


class ResolvingProcess:
    """Answers `resolve_model` calls; `close` checks that nothing was printed but by other libraries."""

    def __init__(self, hub: FakeHub, pairs: Path, home: Path, *, torch: bool = False, offline: bool = False) -> None:
        """Start it.

        Args:
            hub: where it fetches from.
            pairs: the verification pairs it uses, few so that imports take no time.
            home: a folder for what it keeps besides the folders of its calls.
            torch: whether torch, transformers and optimum can be imported.
            offline: whether HF_HUB_OFFLINE is set.
        """
        environment = hub.environment(home) | {"HF_HUB_OFFLINE": str(int(offline)), "HF_TOKEN": "hf_secret"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(pairs), str(torch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def resolve(self, home: Path, model: object, **options: Any) -> dict[str, Any]:
        """`resolve_model` with both caches below `home`: its folder or its error, and how many files were imported."""
        call = {"precision": "fp32", "model": str(model)} | options
        self._process.stdin.write(json.dumps([str(home), call]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._process.communicate()[1]
        return json.loads(line)

    def close(self) -> None:
        printed, errors = self._process.communicate(timeout=60)
        unexpected = [line for line in errors.splitlines() if not _NOT_OURS.match(line)]
        assert (printed, unexpected) == ("", []), errors
