"""The full-size check of `crossrank score`: short pairs, undisturbed and killed three times, the same output.

    python tests/check_bulk.py [--rows 100000] [--model default-small] [--precision int8] [--words 6 24]

int8 outputs must have the same bytes; float32 outputs the same rows, with scores within 1e-5. The first 20,000 pairs
are also scored by one `score_pairs` in memory, and compared one by one.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))
import numpy as np
from score_runs import run_score, write_pairs

KILLS = 3
COMPARED = 20_000
LOGITS = ("--activation", "identity")  # sigmoids would be nearer to each other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--model", default="default-small")
    parser.add_argument("--precision", default="int8", choices=["int8", "fp32"])
    parser.add_argument("--words", type=int, nargs=2, default=[6, 24], help="words of a document, at least and at most")
    given = parser.parse_args()
    print(f"{given.rows} pairs of {given.words} words a document, {given.model} {given.precision}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = folder / "pairs.jsonl"
        rows = write_pairs(pairs, given.rows, words=tuple(given.words))
        options = ("--pairs", pairs, "--model", given.model, "--precision", given.precision, *LOGITS)
        whole = run_score(*options, "--out", folder / "whole.jsonl")
        assert whole.code == 0, whole.told
        print(
            f"undisturbed: {whole.pairs_per_second:.0f} pairs/s, {whole.seconds:.1f} s, peak {whole.peak_mib:.0f} MiB"
        )
        rng = random.Random()
        for number in range(KILLS):
            kill_at = given.rows * (number + rng.random()) // KILLS
            run = run_score(*options, "--out", folder / "killed.jsonl", kill_at=int(kill_at), delay=rng.random())
            left = sorted(path.name for path in folder.glob("killed*"))
            print(f"kill {number + 1}: at row {run.kept} or later, exit code {run.code}, left {left}")
            assert run.code == -9, run.told
            assert "killed.jsonl" not in left
        last = run_score(*options, "--out", folder / "killed.jsonl")
        assert last.code == 0, last.told
        print(f"last run: {last.told.strip()}")
        one, other = ((folder / f"{kind}.jsonl").read_bytes() for kind in ("whole", "killed"))
        print(f"the same bytes: {one == other}")
        scored = [json.loads(line) for line in one.splitlines()]
        again = [json.loads(line) for line in other.splitlines()]
        assert [without_score(row) for row in scored] == [without_score(row) for row in again] == rows
        between = max(abs(a["score"] - b["score"]) for a, b in zip(scored, again, strict=True))
        print(f"the same {len(rows)} rows in their order; largest difference of a score {between:.2g}")
        assert one == other if given.precision == "int8" else between <= 1e-5
        compare_with_memory(rows[:COMPARED], scored[:COMPARED], given)


def compare_with_memory(rows: list[dict], scored: list[dict], given: argparse.Namespace) -> None:
    """Compare the scores of the file with those of one call."""
    from crossrank import Reranker

    with Reranker(given.model, precision=given.precision, activation="identity") as reranker:
        scores = reranker.score_pairs([(row["query"], row["document"]) for row in rows]).tolist()
    largest = max(abs(score - row["score"]) for score, row in zip(scores, scored, strict=True))
    same = sum(float(np.float32(row["score"])) == score for score, row in zip(scores, scored, strict=True))
    print(f"one score_pairs of {len(rows)} pairs: {same} bitwise the same, largest difference {largest:.2g}")
    assert same == len(rows) if given.precision == "int8" else largest <= 1e-5


def without_score(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "score"}


if __name__ == "__main__":
    main()
