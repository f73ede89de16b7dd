"""Candidate lists with targets, made while training from the teachers' embeddings."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bm25 import Bm25
from texts import read_json_lines

OWN_BONUS = {"question": 1.5, "define": 1.5, "title": 0.75, "howto": 0.75}
CLASSES = 3


@dataclass
class Teacher:
    """A teacher's embeddings and the line that maps its cosine to the scale of the first teacher's.

    Attributes:
        queries: Embeddings of the queries, of unit length.
        documents: Embeddings of the documents.
        short: Weight of the teacher for short queries.
        long: Weight of the teacher for long queries.
        slope: Factor of the mapping.
        offset: The mapped value is slope * (cosine - offset).
    """

    queries: NDArray[np.float16]
    documents: NDArray[np.float16]
    short: float
    long: float
    slope: float = 1.0
    offset: float = 0.0

    def similarity(self, query: int, documents: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the mapped cosine of a query to documents."""
        cosine = self.documents[documents].astype(np.float32) @ self.queries[query].astype(np.float32)
        return self.slope * (cosine - self.offset)


@dataclass
class CandidateList:
    """A query's documents with their targets (logits)."""

    query: int
    document_class: int
    documents: list[int]
    targets: NDArray[np.float32]


class Lists:
    """Makes candidate lists of a prepared folder.

    The target of a pair is `scale * (similarity - border) + weight * BM25 share`: 0 where the mixture of the
    teachers' cosines is at the border between relevant and not. The similarity is the weighted mean of the
    teachers; the weights and that of BM25 depend on the number of words of the query.
    """

    def __init__(self, folder: Path, teachers: list[str], seed: int, scale: float = 14.0, border: float = 0.38) -> None:
        """Reads the folder.

        Args:
            folder: Folder of prepare.py with the embeddings of embed.py.
            teachers: NAME:SHORT:LONG, the teachers and their weights for short and long queries.
            seed: Start of the random numbers.
            scale: Logits for a difference of 1 in the similarity.
            border: Similarity whose target is 0.
        """
        documents = list(read_json_lines(folder / "documents.jsonl.gz"))
        queries = list(read_json_lines(folder / "queries.jsonl.gz"))
        self.document_texts = [d["text"] for d in documents]
        self.query_texts = [q["text"] for q in queries]
        self.spans = np.array([d["from"] for d in documents])
        self.own = [q["own"] for q in queries]
        self.hide = [q["hide"] for q in queries]
        self.kinds = [q["kind"] for q in queries]
        self.words = np.array([len(text.split()) for text in self.query_texts])
        self.scale, self.border = scale, border
        self.rng = random.Random(seed)
        classes = np.array([d["class"] for d in documents])
        self.members = [np.flatnonzero(classes == c) for c in range(CLASSES)]
        self.by_passage: list[dict[int, int]] = [{} for _ in range(CLASSES)]
        for number, c in enumerate(classes):
            for passage in range(self.spans[number, 0], self.spans[number, 1] + 1):
                self.by_passage[c].setdefault(passage, number)
        self.bm25 = Bm25(self.document_texts, self.query_texts)
        self.lexical = self.bm25.best(self.members[0], 30)
        self.teachers = [self._load(folder, *text.split(":")) for text in teachers]
        for teacher in self.teachers[1:]:
            self._map_to_first(teacher)
        self.order: list[int] = []

    def _load(self, folder: Path, name: str, short: str = "1", long: str = "1") -> Teacher:
        arrays = (np.load(folder / f"{name}.{what}.npy") for what in ("queries", "documents"))
        return Teacher(*arrays, short=float(short), long=float(long))

    def _map_to_first(self, teacher: Teacher, sample: int = 1000) -> None:
        """Fits the line that gives a teacher the first one's mean and deviation on BM25's candidates.

        BM25's candidates are used because they are chosen by neither teacher: among the first one's nearest
        documents its own deviation would be too small.
        """
        first = self.teachers[0]
        sums = np.zeros(4)
        lists = 0
        for query in np.random.default_rng(0).integers(len(self.query_texts), size=sample):
            found = self.lexical[query]
            if len(found) < 4:
                continue
            reference, mine = first.similarity(query, found), teacher.similarity(query, found)
            sums += (reference.mean(), reference.std(), mine.mean(), mine.std())
            lists += 1
        if lists:
            reference_mean, reference_deviation, mean, deviation = sums / lists
            teacher.slope = float(reference_deviation / deviation)
            teacher.offset = float(mean - reference_mean / teacher.slope)

    def targets(self, query: int, documents: list[int]) -> NDArray[np.float32]:
        """Returns the targets of a query's documents."""
        chosen = np.asarray(documents)
        longness = float(np.clip((self.words[query] - 8) / 6, 0, 1))
        weights = np.array([t.short + (t.long - t.short) * longness for t in self.teachers])
        each = np.stack([teacher.similarity(query, chosen) for teacher in self.teachers])
        logits = self.scale * ((weights / weights.sum()) @ each - self.border)
        logits += (0.8 + 1.7 * longness) * (self.bm25.share(query, chosen) - 0.25)
        return np.maximum(logits, -5.5).astype(np.float32)

    def _next_queries(self, count: int) -> list[int]:
        if len(self.order) < count:
            self.order = self.rng.sample(range(len(self.query_texts)), len(self.query_texts))
        taken, self.order = self.order[:count], self.order[count:]
        return taken

    def _neighbours(self, queries: list[int], c: int, count: int) -> NDArray[np.int64]:
        """Returns the documents of a class nearest to each query by the sum of the teachers."""
        total: torch.Tensor | float = 0.0
        for teacher in self.teachers:
            asked = torch.from_numpy(teacher.queries[queries]).bfloat16()
            stored = torch.from_numpy(teacher.documents[self.members[c]]).bfloat16()
            total = total + teacher.slope * (asked @ stored.T).float()
        top = torch.topk(total, min(count, len(self.members[c]))).indices.numpy()
        return self.members[c][top]

    def _choose(self, query: int, c: int, near: NDArray[np.int64], size: int) -> tuple[list[int], bool]:
        """Chooses the documents of a list: own, near, farther, lexical and random ones."""
        hidden = self.hide[query]

        def allowed(number: int) -> bool:
            return hidden < 0 or not self.spans[number, 0] <= hidden <= self.spans[number, 1]

        own = self.by_passage[c].get(self.own[query], -1)
        chosen = [own] if own >= 0 else []
        ranked = [int(number) for number in near if allowed(int(number))]
        lexical = [self.by_passage[c].get(int(passage), -1) for passage in self.lexical[query]]
        pools = (
            (ranked[:12], 2 if own >= 0 else 3),
            (ranked[12:50], 1),
            (ranked[50:], 1),
            ([number for number in lexical if number >= 0 and allowed(number)], 2),
        )
        for pool, count in pools:
            free = [number for number in dict.fromkeys(pool) if number not in chosen]
            chosen += self.rng.sample(free, min(count, len(free)))
        while len(chosen) < size:
            number = int(self.rng.choice(self.members[c]))
            if number not in chosen and allowed(number):
                chosen.append(number)
        return chosen[:size], own >= 0

    def block(self, queries: int, size: int, shares: list[float]) -> Iterator[CandidateList]:
        """Yields the lists of some queries, all with documents of one class drawn by its share."""
        usable = [share if len(self.members[c]) > 4 * size else 0.0 for c, share in enumerate(shares)]
        c = self.rng.choices(range(CLASSES), usable)[0]
        numbers = self._next_queries(min(queries, len(self.query_texts)))
        for query, near in zip(numbers, self._neighbours(numbers, c, 200), strict=True):
            documents, has_own = self._choose(query, c, near, size)
            targets = self.targets(query, documents)
            if has_own and c != 1:
                targets[0] += OWN_BONUS.get(self.kinds[query], 0.0)
            yield CandidateList(query, c, documents, targets)
