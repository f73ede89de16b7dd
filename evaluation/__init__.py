"""How well models rank a judged collection, and how long they take.

>>> from crossrank.evaluation import Collection, evaluate
>>> collection = Collection.from_tables(documents, queries, judgements, run)  # doctest: +SKIP
>>> evaluate(collection, ["default", "models/mine"]).models[1].means()  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossrank.evaluation.beir import read_collection
    from crossrank.evaluation.collection import Collection
    from crossrank.evaluation.evaluation import evaluate
    from crossrank.evaluation.result import EvaluatedModel, Evaluation
    from crossrank.evaluation.significance import Comparison
    from crossrank.evaluation.trec_run import read_run, write_run

_HOME = {
    "Collection": "collection",
    "Comparison": "significance",
    "EvaluatedModel": "result",
    "Evaluation": "result",
    "evaluate": "evaluation",
    "read_collection": "beir",
    "read_run": "trec_run",
    "write_run": "trec_run",
}

__all__ = [
    "Collection",
    "Comparison",
    "EvaluatedModel",
    "Evaluation",
    "evaluate",
    "read_collection",
    "read_run",
    "write_run",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562): the command line needs a few types of this package only."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
