"""Writes generated passages with questions, to run the recipe on a small scale without any download.

python sample.py OUT.jsonl --passages 300
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from texts import write_json_lines

THINGS = ("copper pump", "river bridge", "wool loom", "glass furnace", "tide gauge", "clay kiln", "rope ferry",
          "wind mill", "salt pan", "paper press", "coal barge", "signal lamp")  # fmt: skip
PLACES = ("Arlen", "Brokov", "Cathra", "Dunmere", "Estval", "Farrow", "Gellin", "Hoxby")
ASPECTS = {
    "history": "The {t} of {p} was built in {y} and rebuilt {n} years later after a fire.",
    "capacity": "It handles {n} loads a day, and the {t} is stopped when fewer than {m} are waiting.",
    "repair": "To repair the {t}, workers remove {m} bolts, clean the frame and replace worn parts.",
    "cost": "Running the {t} in {p} costs {n} crowns a month, of which {m} are paid by the town.",
    "safety": "Visitors to the {t} must stay {m} steps away while it is moving.",
    "people": "A crew of {m} looks after the {t}; its master has {n} years of experience.",
}
QUESTIONS = {
    "history": "when was the {t} of {p} built",
    "capacity": "how many loads does the {t} in {p} handle",
    "repair": "how to repair the {t} of {p}",
    "cost": "cost of running the {t} in {p}",
    "safety": "safety rules at the {t} in {p}",
    "people": "who looks after the {t} of {p}",
}


def make_record(rng: random.Random) -> dict[str, object]:
    """Makes a passage of some aspects of a thing in a place, with a question on one of them."""
    chosen = rng.sample(sorted(ASPECTS), 4)
    values = {
        "t": rng.choice(THINGS),
        "p": rng.choice(PLACES),
        "y": rng.randint(1500, 1990),
        "n": rng.randint(20, 90),
        "m": rng.randint(3, 19),
    }
    text = " ".join(ASPECTS[aspect].format(**values) for aspect in chosen)
    return {"text": text, "queries": [QUESTIONS[chosen[0]].format(**values)], "source": "sample"}


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--passages", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    write_json_lines(options.out, [make_record(rng) for _ in range(options.passages)])


if __name__ == "__main__":
    main()
