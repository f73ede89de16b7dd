"""Answer a question from documents: BM25 retrieves 100 passages, the cross-encoder keeps 20, 3 go to a language model.

    python examples/retrieve_rerank_answer.py how do vaccines protect people who cannot be vaccinated

Needs `pip install 'crossrank[cpu]' bm25s`. The language model is any service with OpenAI's chat API: its address in
OPENAI_BASE_URL (such as http://localhost:11434/v1), its name in OPENAI_MODEL, its key, if it wants one, in
OPENAI_API_KEY. Without an address the prompt is printed instead.
"""

import json
import os
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bm25s

from crossrank import RankResult, Reranker

QUESTION = "Why do vaccines also protect newborn babies who cannot be vaccinated?"
ARTICLES = Path(__file__).parent / "passages.jsonl"
SENTENCES = 2
"""A passage: as much of an article as answers one question."""
RETRIEVED, RERANKED, IN_CONTEXT = 100, 20, 3


@contextmanager
def timed(stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{(time.perf_counter() - started) * 1000:8.1f} ms  {stage}")


def read_passages() -> list[dict[str, str]]:
    """The articles, cut into passages of two sentences; the title says what a passage is about."""
    passages = []
    for line in ARTICLES.read_text(encoding="utf-8").splitlines():
        article = json.loads(line)
        sentences = re.split(r"(?<=[.!?]) +", article["text"])
        for start in range(0, len(sentences), SENTENCES):
            text = " ".join(sentences[start : start + SENTENCES])
            passages.append({"id": f"{article['id']}.{start}", "text": f"{article['title']}. {text}"})
    return passages


def retrieve(index: bm25s.BM25, passages: list[dict[str, str]], question: str) -> list[dict[str, str]]:
    words = bm25s.tokenize(question, show_progress=False)
    places, _ = index.retrieve(words, k=RETRIEVED, show_progress=False)
    return [passages[place] for place in places[0]]


def prompt_of(question: str, ranking: RankResult) -> str:
    context = "\n\n".join(f"[{item.document['id']}] {item.document['text']}" for item in ranking[:IN_CONTEXT])
    return (
        "Answer the question from these passages alone, and name the passages you used. "
        f"If they do not answer it, say so.\n\n{context}\n\nQuestion: {question}"
    )


def ask(address: str, prompt: str) -> str:
    """What a language model answers."""
    body = {"model": os.environ.get("OPENAI_MODEL", "default"), "messages": [{"role": "user", "content": prompt}]}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '-')}"}
    request = urllib.request.Request(  # noqa: S310  the address is the user's own
        f"{address.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        return str(json.load(answer)["choices"][0]["message"]["content"])


def main() -> None:
    question = " ".join(sys.argv[1:]) or QUESTION
    passages = read_passages()
    with timed(f"BM25 indexes {len(passages)} passages"):
        index = bm25s.BM25()
        index.index(bm25s.tokenize([passage["text"] for passage in passages], show_progress=False), show_progress=False)
    with timed("the cross-encoder is loaded"):
        reranker = Reranker()
        reranker.warmup()
    with reranker:
        with timed(f"BM25 retrieves {RETRIEVED}"):
            candidates = retrieve(index, passages, question)
        with timed(f"the cross-encoder scores them and keeps {RERANKED}"):
            ranking = reranker.rank(question, candidates, top_k=RERANKED)
    for place, item in enumerate(ranking[:IN_CONTEXT], start=1):
        print(f"{place}. was {item.index + 1:3d}. of BM25, score {item.score:6.3f}: {item.document['id']}")
    prompt = prompt_of(question, ranking)
    address = os.environ.get("OPENAI_BASE_URL")
    if not address:
        print(f"\nNo OPENAI_BASE_URL, so here is the prompt:\n\n{prompt}")
        return
    with timed("the language model answers"):
        answer = ask(address, prompt)
    print(f"\n{answer}")


if __name__ == "__main__":
    main()
