"""Engines that are wrong in a chosen way."""

from __future__ import annotations

import dataclasses


class Faulty:
    """A real engine whose scores a fault changes: `fault(engine, documents, scores) -> scores`."""

    def __init__(self, engine, fault, *, captured):
        self.engine, self.fault, self.captured = engine, fault, captured
        self.calls, self.most, self.kept = 0, 0, {}

    def score(self, query, documents):
        scores = self.engine.score(query, documents)
        changed = self.fault(self, documents, scores)
        self.calls += 1
        self.most = max(self.most, len(documents))
        return changed

    def score_pairs(self, pairs):
        return self.fault(self, pairs, self.engine.score_pairs(pairs))

    def info(self):
        return self.engine.info()

    def close(self):
        self.engine.close()


def with_fault(subject, fault, **changes):
    def open_engine(precision, *, cuda_graphs):
        return Faulty(subject.open(precision, cuda_graphs=cuda_graphs), fault, captured=cuda_graphs)

    return dataclasses.replace(subject, open=open_engine, **changes)
