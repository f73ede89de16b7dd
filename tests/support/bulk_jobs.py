"""A job with a stub in place of the model, and files written and read without crossrank."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from stub_reranker import stub_logit

from crossrank.bulk import Layout
from crossrank.bulk.finishing import OutputFiles
from crossrank.bulk.pair_files import find_pair_files, pair_file
from crossrank.bulk.pair_scorer import PairScores
from crossrank.bulk.scoring_job import ScoringJob


class StubScorer:
    """Scores by a rule anybody can repeat.

    Attributes:
        calls: the pairs of each call.
        fails: documents that get no score.
        name: of the model.
        most: calls that went on at once.
    """

    def __init__(self, fails=(), name="stub"):
        self.calls, self.fails, self.name = [], fails, name
        self.running = self.most = 0
        self.cancelled = threading.Event()
        self.lock = threading.Lock()

    def model(self):
        return {"name": self.name, "precision": "int8"}

    def devices(self):
        return None

    def score(self, pairs):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.calls.append(list(pairs))
        scores = np.array([stub_logit(*pair) for pair in pairs], dtype=np.float32)
        failed = {index: "no number" for index, (_, text) in enumerate(pairs) if text in self.fails}
        scores[list(failed)] = np.nan
        with self.lock:
            self.running -= 1
        return PairScores(scores, failed, truncated=sum(len(text) > 40 for _, text in pairs), tokens=3 * len(pairs))

    def cancel(self):
        self.cancelled.set()


def stub_score(query, document):
    return float(str(np.float32(stub_logit(query, document))))


def run_job(pairs, out, *, scorer=None, layout=None, on_error="fail", overwrite=False, other_machine=False, told=None):
    """What `score_files` does, with a stub."""
    output_files = OutputFiles(Path(out).absolute())
    files = find_pair_files([pairs] if isinstance(pairs, (str, Path)) else pairs, output_files.all)
    progress = (lambda progress: None) if told is None else told.append
    job = ScoringJob(
        files, output_files, pair_file(Path(out)), layout or Layout(), on_error=on_error, progress=progress
    )
    return job.run(scorer or StubScorer(), overwrite=overwrite, other_machine=other_machine)


def make_rows(count):
    return [{"id": str(index), "query": f"query {index // 7}", "document": f"text {index}"} for index in range(count)]


def file_names(folder):
    """What lies in a folder."""
    return {path.name for path in folder.iterdir()}


_OPEN = {".gz": gzip.open, ".bz2": bz2.open}


def write_rows(path, rows):
    """Write rows by other means than crossrank's; those of text formats as strings."""
    form = next(part for part in path.suffixes[-2:] if part in {".jsonl", ".csv", ".tsv", ".parquet"})
    if form == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    text = io.StringIO(newline="")
    if form == ".jsonl":
        text.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        writer = csv.DictWriter(text, list(rows[0]), delimiter="," if form == ".csv" else "\t")
        writer.writeheader()
        writer.writerows(rows)
    path.write_bytes(_packed(path.suffix, text.getvalue().encode()))
    return path


def read_scored(path):
    """Rows and their scores, read by other means; values of CSV and TSV as texts, but the score."""
    form = next(part for part in path.suffixes[-2:] if part in {".jsonl", ".csv", ".tsv", ".parquet"})
    if form == ".parquet":
        rows = pq.read_table(path).to_pylist()
        return [row | {"score": None if row["score"] is None else float(str(np.float32(row["score"])))} for row in rows]
    text = _unpacked(path).decode()
    if form == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="," if form == ".csv" else "\t", strict=True)
    return [row | {"score": float(row["score"]) if row["score"] else None} for row in reader]


def _packed(suffix, content):
    if suffix in _OPEN:
        stream = io.BytesIO()
        with _OPEN[suffix](stream, "wb") as packed:
            packed.write(content)
        return stream.getvalue()
    if suffix in {".zst", ".lz4"}:
        return _arrow_packed(suffix, content)
    return content


def _arrow_packed(suffix, content):
    stream = pa.BufferOutputStream()
    with pa.CompressedOutputStream(stream, "zstd" if suffix == ".zst" else "lz4") as packed:
        packed.write(content)
    return stream.getvalue().to_pybytes()


def _unpacked(path):
    if path.suffix in _OPEN:
        with _OPEN[path.suffix](path, "rb") as stream:
            return stream.read()
    if path.suffix in {".zst", ".lz4"}:
        with pa.input_stream(str(path), compression="zstd" if path.suffix == ".zst" else "lz4") as stream:
            return stream.read()
    return path.read_bytes()
