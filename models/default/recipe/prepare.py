"""Makes passages, documents and queries from the sources: the first step of the recipe.

    python prepare.py OUT debian=Translation-en wordnet=wn.dict.dz json=texts.jsonl ...

Writes `documents.jsonl.gz` and `queries.jsonl.gz` to OUT. Documents are of three classes, so that the model sees
texts of every length: passages, short pieces of passages and long texts made of neighbouring passages. A finished
run is not repeated, and OUT is refused for other sources: the embeddings of `embed.py` belong to these texts.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import re
from pathlib import Path
from typing import Any

from sources import READERS, Item
from texts import sentences, write_json_lines

PASSAGE, SHORT, LONG = range(3)
WORD = re.compile(r"[a-z]{3,}")


def read_sources(named: list[str], most: int, rng: random.Random) -> list[Item]:
    """Reads the sources given as NAME=PATH and drops repeated passages."""
    items: list[Item] = []
    seen: set[str] = set()
    for argument in named:
        name, _, path = argument.partition("=")
        if name not in READERS:
            raise SystemExit(f"unknown source {name!r}; known: {', '.join(READERS)}")
        kept = 0
        for item in READERS[name](Path(path), rng):
            if item.text and item.text[:120] in seen:
                continue
            seen.add(item.text[:120])
            items.append(item)
            kept += 1
            if kept == most:
                break
        print(f"{name}: {kept} items", flush=True)
    return items


def short_piece(text: str, rng: random.Random) -> str | None:
    """Returns one to three neighbouring sentences of a passage, or None for a short passage."""
    parts = sentences(text)
    if len(text.split()) < 45 or len(parts) < 2:
        return None
    start = rng.randrange(len(parts))
    wanted = rng.choice((18, 28, 38))
    words: list[str] = []
    for part in parts[start:]:
        words += part.split()
        if len(words) >= wanted:
            break
    return " ".join(words[:55]) if len(words) >= 8 else None


def make_documents(passages: list[str], rng: random.Random) -> list[dict[str, Any]]:
    """Makes the documents of all classes; `from` names the first and last passage a document is made of."""
    documents = [{"text": text, "class": PASSAGE, "from": [n, n]} for n, text in enumerate(passages)]
    for number, text in enumerate(passages):
        piece = short_piece(text, rng)
        if piece is not None:
            documents.append({"text": piece, "class": SHORT, "from": [number, number]})
    start = 0
    while start + 1 < len(passages):
        count = rng.choice((2, 2, 3))
        words = " ".join(passages[start : start + count]).split()
        if len(words) >= 110:
            last = min(start + count, len(passages)) - 1
            text = " ".join(words[: rng.choice((130, 160, 180, 200))])
            documents.append({"text": text, "class": LONG, "from": [start, last]})
            start += rng.choice((2, 3))
        else:
            start += 1
    return documents


def keyword_query(text: str, frequency: collections.Counter[str], most: int, rng: random.Random) -> str | None:
    """Returns two to five of the rarer words of a passage in their order, or None."""
    words = [w for w in dict.fromkeys(WORD.findall(text.lower())) if 2 < frequency[w] < most][:25]
    if len(words) < 4:
        return None
    chosen = set(rng.sample(words, min(len(words), rng.randint(2, 5))))
    return " ".join(word for word in words if word in chosen)


def make_queries(items: list[Item], rng: random.Random) -> list[dict[str, Any]]:
    """Makes the queries.

    A query has `own`, the passage that answers it, or -1, and `hide`, the passage its text was taken from, or
    -1: what a sentence was taken from holds it word for word, so it is no candidate for it.
    """
    queries: list[dict[str, Any]] = []
    number = -1
    passages: list[str] = []
    for item in items:
        if item.text:
            number += 1
            passages.append(item.text)
        own = number if item.text else -1
        queries += [{"text": text, "kind": kind, "own": own, "hide": -1} for text, kind in item.queries]
    frequency = collections.Counter(word for text in passages for word in set(WORD.findall(text.lower())))
    for number, text in enumerate(passages):
        draw = rng.random()
        if draw < 0.10:
            words = keyword_query(text, frequency, max(4, len(passages) // 50), rng)
            if words is not None:
                queries.append({"text": words, "kind": "keywords", "own": number, "hide": -1})
        elif draw < 0.35:
            parts = sentences(text)
            count = rng.choice((1, 1, 1, 2, 3))
            start = rng.randrange(max(1, len(parts) - count + 1))
            taken = " ".join(parts[start : start + count]).split()[:60]
            if len(taken) >= 9:
                queries.append({"text": " ".join(taken), "kind": "sentence", "own": -1, "hide": number})
    rng.shuffle(queries)
    return queries


def main() -> None:
    """Runs the step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("sources", nargs="+", help=f"NAME=PATH; names: {', '.join(READERS)}")
    parser.add_argument("--most", type=int, default=36000, help="at most this many items of a source")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    record = options.out / "prepared.json"
    made_from = {"sources": options.sources, "most": options.most, "seed": options.seed}
    if record.exists():
        known = json.loads(record.read_text(encoding="utf-8"))
        if known != made_from:
            raise SystemExit(f"{options.out} was prepared with {known}, not {made_from}; take another folder")
        print(f"{options.out} is prepared", flush=True)
        return
    items = read_sources(options.sources, options.most, rng)
    documents = make_documents([item.text for item in items if item.text], rng)
    queries = make_queries(items, rng)
    write_json_lines(options.out / "documents.jsonl.gz", documents)
    write_json_lines(options.out / "queries.jsonl.gz", queries)
    record.write_text(json.dumps(made_from) + "\n", encoding="utf-8")
    print("documents by class:", dict(collections.Counter(d["class"] for d in documents)))
    print("queries by kind:", dict(collections.Counter(q["kind"] for q in queries)))


if __name__ == "__main__":
    main()
