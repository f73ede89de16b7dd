"""The example for Spark, on a local Spark with two cores."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossrank import Reranker

EXAMPLE = Path(__file__).parents[2] / "examples" / "spark_map_in_pandas.py"

pytest.importorskip("pyspark", reason="Spark is not installed: 'make ray' has an environment with it")


@pytest.mark.skipif(shutil.which("java") is None and "JAVA_HOME" not in os.environ, reason="Spark needs Java")
def test_partitions_are_scored_as_by_a_reranker():
    spec = importlib.util.spec_from_file_location("spark_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=True)
    with Reranker(threads=1) as reranker:
        scores = reranker.score_pairs([(query, document) for _, query, document in example.PAIRS])
    lines = [
        f"{score:8.4f}  {query}: {document}" for score, (_, query, document) in zip(scores, example.PAIRS, strict=True)
    ]
    # A progress bar that was not finished stands before the first.
    found = [line for line in lines if f"{line}\n" in done.stdout]
    assert found == lines
