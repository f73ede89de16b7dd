"""Reranks BM25's candidates of BEIR collections with a checkpoint and prints nDCG@10: the last step of the recipe.

    python evaluate.py CHECKPOINT --collection dl21=PATH:100:linear --collection cisi=PATH:50:exponential

A collection is NAME=FOLDER:CANDIDATES:GAIN[:QUERIES]: so many candidates a query of `bm25.top100.trec`, the gain of
a grade (linear: the grade; exponential: 2^grade - 1) and, optionally, only the first queries of the file. Also
checks what odd documents score: an empty document must be below every off-topic one.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from encoder import pad, pair_ids, score, set_precision
from texts import read_json_lines

OFF_TOPIC = (
    "The recipe calls for two cups of flour and a pinch of salt.",
    "Our football team lost the match on Sunday.",
    "Click here to subscribe to the newsletter.",
    "The cat sleeps on the sofa all afternoon.",
    "Trains to the airport leave every twenty minutes.",
)
QUERIES = ("how do vaccines work", "history of the steam engine", "what is a balance of payments")
ODD = ("", " ", ".", "-", "...", "?!", "n/a")


@dataclass
class Collection:
    """The part of a BEIR collection that is measured."""

    documents: dict[str, str]
    queries: dict[str, str]
    grades: dict[str, dict[str, int]]
    candidates: dict[str, list[str]]
    exponential: bool

    def gain(self, grade: int) -> float:
        """Returns the gain of a grade."""
        grade = max(grade, 0)
        return float(2**grade - 1 if self.exponential else grade)


def load_collection(folder: Path, depth: int, exponential: bool, most: int | None) -> Collection:
    """Reads corpus, queries, judgements and BM25's run of a folder in BEIR's layout."""
    documents = {
        record["_id"]: f"{record.get('title', '')} {record['text']}".strip()
        for record in read_json_lines(folder / "corpus.jsonl")
    }
    asked = list(read_json_lines(folder / "queries.jsonl"))[:most]
    grades: dict[str, dict[str, int]] = collections.defaultdict(dict)
    for line in next((folder / "qrels").glob("*.tsv")).read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        grades[query][document] = int(grade)
    run: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
    for line in (folder / "bm25.top100.trec").read_text().splitlines():
        query, _, document, rank, *_ = line.split()
        run[query].append((int(rank), document))
    candidates = {query: [document for _, document in sorted(found)[:depth]] for query, found in run.items()}
    return Collection(documents, {q["_id"]: q["text"] for q in asked}, grades, candidates, exponential)


def ndcg(collection: Collection, scores: dict[str, list[float]], depth: int = 10) -> float:
    """Returns the mean nDCG; the ideal order is that of all judged documents of the query."""

    def discounted(gains: list[float]) -> float:
        return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains[:depth]))

    values: list[float] = []
    for query, own_scores in scores.items():
        judged = collection.grades[query]
        found = collection.candidates[query]
        order = sorted(range(len(found)), key=lambda place: -own_scores[place])
        gains = [collection.gain(judged.get(found[place], 0)) for place in order]
        ideal = discounted(sorted((collection.gain(g) for g in judged.values()), reverse=True))
        values.append(discounted(gains) / ideal if ideal else 0.0)
    return float(np.mean(values))


@torch.no_grad()
def score_texts(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[tuple[str, str]],
    device: str = "cpu",
    longest: int = 512,
) -> list[float]:
    """Scores pairs of texts; the document is cut so that a pair has at most `longest` tokens."""
    known: dict[str, list[int]] = {}

    def tokens(text: str) -> list[int]:
        if text not in known:
            known[text] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return known[text]

    pairs = [pair_ids(tokens(query), tokens(document), longest, longest) for query, document in texts]
    result = np.zeros(len(pairs))
    for part, ids, mask, segments in pad(pairs, rows=64):
        logits = score(model, ids.to(device), mask.to(device), segments.to(device))
        result[part] = logits[: len(part)].float().cpu().numpy()
    return result.tolist()


def score_collection(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, collection: Collection, device: str, longest: int = 512
) -> dict[str, list[float]]:
    """Returns the scores of the candidates of every query."""
    keys = [(q, d) for q in collection.queries for d in collection.candidates[q]]
    texts = [(collection.queries[q], collection.documents[d]) for q, d in keys]
    scores: dict[str, list[float]] = {query: [] for query in collection.queries}
    for (query, _), value in zip(keys, score_texts(model, tokenizer, texts, device, longest), strict=True):
        scores[query].append(value)
    return scores


def check_odd(model: nn.Module, tokenizer: PreTrainedTokenizerBase, queries: list[str], device: str) -> dict[str, Any]:
    """Compares the scores of empty and other odd documents with those of off-topic ones."""
    texts = [(query, document) for document in (*ODD, *OFF_TOPIC) for query in queries]
    scores = np.array(score_texts(model, tokenizer, texts, device)).reshape(-1, len(queries))
    odd, off = scores[: len(ODD)], scores[len(ODD) :]
    return {
        "odd_mean": {repr(text): round(float(row.mean()), 2) for text, row in zip(ODD, odd, strict=True)},
        "off_topic": [round(float(x), 2) for x in (off.min(), off.mean(), off.max())],
        "empty_below_all_off_topic": round(float((odd[0] < off.min(0)).mean()), 4),
    }


def scale(collection: Collection, scores: dict[str, list[float]]) -> dict[str, float]:
    """Describes where the scores of relevant and of other candidates lie; 0 is meant to be between."""
    groups: dict[bool, list[float]] = {True: [], False: []}
    for query, values in scores.items():
        for document, value in zip(collection.candidates[query], values, strict=True):
            groups[collection.grades[query].get(document, 0) > 0].append(value)
    relevant, other = np.array(groups[True]), np.array(groups[False])
    return {
        "relevant_median": round(float(np.median(relevant)), 2),
        "other_median": round(float(np.median(other)), 2),
        "relevant_above_0": round(float((relevant > 0).mean()), 3),
        "other_above_0": round(float((other > 0).mean()), 3),
    }


def evaluate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    collections_by_name: dict[str, Collection],
    device: str = "cpu",
    longest: int = 512,
) -> dict[str, Any]:
    """Returns nDCG@10 and the scale of the scores on each collection and the check of odd documents."""
    figures: dict[str, Any] = {}
    sample: list[str] = []
    for name, collection in collections_by_name.items():
        scores = score_collection(model, tokenizer, collection, device, longest)
        figures[name] = {"ndcg@10": round(ndcg(collection, scores), 4), **scale(collection, scores)}
        sample += list(collection.queries.values())[:20]
    figures["odd_documents"] = check_odd(model, tokenizer, sample or list(QUERIES), device)
    return figures


def parse_collections(arguments: list[str]) -> dict[str, Collection]:
    """Reads the collections given as NAME=FOLDER:CANDIDATES:GAIN[:QUERIES]."""
    result: dict[str, Collection] = {}
    for argument in arguments:
        name, _, rest = argument.partition("=")
        folder, depth, gain, *most = rest.split(":")
        if gain not in ("linear", "exponential"):
            raise SystemExit(f"unknown gain {gain!r}: linear or exponential")
        limit = int(most[0]) if most else None
        result[name] = load_collection(Path(folder), int(depth), gain == "exponential", limit)
    return result


def main() -> None:
    """Runs the step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--collection", action="append", default=[], help="NAME=FOLDER:CANDIDATES:GAIN[:QUERIES]")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--bfloat16", action="store_true", help="faster and a little less exact")
    parser.add_argument("--out", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(options.checkpoint).float().eval()
    set_precision(model.to(options.device), options.bfloat16)
    figures = evaluate(model, tokenizer, parse_collections(options.collection), options.device)
    text = json.dumps(figures, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
