"""How well models rank a judged collection, and how long they take.

>>> from crossrank.evaluation import Collection, evaluate
>>> collection = Collection.from_tables(documents, queries, judgements, run)  # doctest: +SKIP
>>> evaluate(collection, ["default", "models/mine"]).models[1].means()  # doctest: +SKIP
"""

from __future__ import annotations

from crossrank.evaluation.beir import read_collection
from crossrank.evaluation.collection import Collection
from crossrank.evaluation.evaluation import evaluate
from crossrank.evaluation.result import EvaluatedModel, Evaluation
from crossrank.evaluation.significance import Comparison
from crossrank.evaluation.trec_run import read_run, write_run

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
