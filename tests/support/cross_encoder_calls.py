"""Pairs for a `CrossEncoder`, and calls that sentence-transformers refuses, or takes and `crossrank.compat` refuses.

Each was seen with sentence-transformers 6.2; `tests/api/compat/test_beside_sentence_transformers.py` makes sure of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tiny_checkpoints import make_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[Any], object]

PAIRS = [("the river", "cold water"), ("who reads", "every reader measures wind-tunnel results"), ("a", "")]

LONG = "the river heats cold water " * 20
MANY = [*make_pairs(20, seed=61), *PAIRS, ("", ""), ("who", LONG), (LONG, "cold water"), (LONG, LONG)]
"""Also empty ones, and such as are longer than the model takes by the document, by the query and by both."""

REFUSED_BY_BOTH: dict[str, Call] = {
    "a pair without a document": lambda model: model.predict([("a",)]),
    "a pair of three": lambda model: model.predict([("a", "b", "c")]),
    "an empty pair": lambda model: model.predict([()]),
    "one pair too short among others": lambda model: model.predict([("a", "b"), ("c",)]),
    "a document that is None": lambda model: model.predict([("a", None)]),
    "a document that is a number": lambda model: model.predict([("a", 3)]),
    "bytes": lambda model: model.predict([(b"a", b"b")]),
    "one pair with None": lambda model: model.predict(("a", None)),
    "three strings": lambda model: model.predict(["a", "b", "c"]),
    "one string in a list": lambda model: model.predict(["a"]),
    "None": lambda model: model.predict(None),
    "an iterator": lambda model: model.predict(iter(PAIRS)),
    "a set": lambda model: model.predict({("a", "b")}),
    "an array of numbers": lambda model: model.predict(np.zeros((2, 2))),
    "an empty array of numbers": lambda model: model.predict(np.array([])),
    "rows of an array": lambda model: model.predict(list(np.array(PAIRS))),
    "batches of none": lambda model: model.predict(PAIRS, batch_size=0),
    "batches of less than none": lambda model: model.predict([], batch_size=-1),
    "batches of two and a half": lambda model: model.predict(PAIRS, batch_size=2.5),
    "batches of None": lambda model: model.predict(PAIRS, batch_size=None),
    "an activation that is a name": lambda model: model.predict(PAIRS, activation_fn="sigmoid"),
    "an activation that gives one number": lambda model: model.predict(PAIRS, activation_fn=lambda logits: 3.0),
    "a prompt that is not there": lambda model: model.predict(PAIRS, prompt_name="query"),
    "a prompt that is a number": lambda model: model.predict(PAIRS, prompt=3),
    "ranking for no query": lambda model: model.rank(None, ["a"]),
    "ranking for two queries": lambda model: model.rank(["a", "b"], ["a"]),
    "ranking None": lambda model: model.rank("a", ["b", None]),
    "ranking mappings": lambda model: model.rank("a", [{"text": "b"}]),
    "ranking one and a half": lambda model: model.rank("a", ["b", "c"], top_k=1.5),
    "calling the model": lambda model: model(PAIRS),
}
"""Mistakes in a call: both raise."""

REFUSED_HERE: dict[str, Call] = {
    "a text by itself": lambda model: model.predict("a"),
    "a text by itself as an array": lambda model: model.predict(np.array("a")),
    "a text among pairs": lambda model: model.predict([("a", "b"), "c"]),
    "a mapping": lambda model: model.predict({"text": "a"}),
    "a string in the place of documents": lambda model: model.rank("a", "bc"),
    "all but the last": lambda model: model.rank("a", ["b", "c"], top_k=-1),
    "batches of True": lambda model: model.predict(PAIRS, batch_size=True),
    "options that do not exist": lambda model: model.predict(PAIRS, no_such_option=1),
    "former names of arguments": lambda model: model.predict(sentences=PAIRS),
    "former names of activations": lambda model: model.predict(PAIRS, activation_fct=abs),
    "former options": lambda model: model.predict(PAIRS, num_workers=0),
    "former options of rank": lambda model: model.rank("a", ["b"], apply_softmax=True),
}
"""What sentence-transformers takes, often by mistake, and crossrank.compat refuses: the migration guide lists it."""
