"""The GPU build of onnxruntime on a machine without a GPU: what is refused, with which words, and what runs instead.

`make gpu-wheel` installs it in an environment of its own, where this runs. On a machine with a GPU there is nothing to
check here: `crossrank self-check --provider cuda` does.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
from logging.handlers import BufferingHandler
from pathlib import Path

import onnxruntime

from crossrank import ProviderError, Reranker

NO_LIBRARIES = importlib.util.find_spec("nvidia") is None
"""`make gpu-wheel` installs none of CUDA's libraries; where they are, the driver is what is missing."""
QUERY, DOCUMENTS = "how do vaccines work", ["They train immune cells.", "Stocks fell."]


def main() -> None:
    """Raise at the first thing that is not as promised."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        sys.exit("this onnxruntime is not built for CUDA; install onnxruntime-gpu and nothing else of onnxruntime")
    try:
        Reranker(provider="cuda").close()
    except ProviderError as error:
        refusal = str(error)
    else:
        print("CUDA works here, so there is no refusal to check")
        return
    print(refusal)
    for part in (
        "provider='cuda' does not work here",
        onnxruntime.__version__,
        "GPU 0",
        "cannot open shared object file" if NO_LIBRARIES else "CUDA",
        "nvidia-smi",
        "crossrank[gpu]",
    ):
        if part not in refusal:
            sys.exit(f"the refusal does not say {part!r}")

    handler = BufferingHandler(capacity=100)
    logging.getLogger("crossrank").addHandler(handler)
    with Reranker() as reranker:
        info = reranker.info()
        ranking = reranker.rank(QUERY, DOCUMENTS)
    if (info.provider, ranking[0].index) != ("cpu", 0):
        sys.exit(f"auto ran on {info.provider} and ranked {ranking[0].index} first")
    if not info.provider_reason.startswith("auto: CUDA did not start"):
        sys.exit(f"info() gives no reason: {info.provider_reason!r}")
    lines = handler.buffer
    if [(line.levelname, info.provider_reason[6:] in line.getMessage()) for line in lines] != [("WARNING", True)]:
        sys.exit(f"one line of warning with the reason was expected in the log, there are {lines}")
    print(lines[0].getMessage())
    check_commands()
    print("the GPU build refuses CUDA here with its reason, and auto scores on the CPU")


def check_commands() -> None:
    """What is for GPUs on the command line refuses as well; the report says which library is missing."""
    program = [sys.executable, "-c", "from crossrank.cli import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        for command in (["bench", "latency"], ["bench", "load"], ["self-check", "--json", str(report)]):
            done = subprocess.run(
                [*program, *command, "--provider", "cuda"], capture_output=True, text=True, check=False
            )
            if done.returncode != 1 or "provider='cuda' does not work here" not in done.stdout + done.stderr:
                sys.exit(f"{command[0]} does not refuse with the reason: {done.returncode} {done.stdout} {done.stderr}")
        (provider,) = json.loads(report.read_text())["results"]
    if provider["passed"] is not False or "CUDA did not start" not in provider["detail"]:
        sys.exit(f"the self-check does not tell why CUDA did not start: {provider}")
    print(provider["detail"])


if __name__ == "__main__":
    main()
