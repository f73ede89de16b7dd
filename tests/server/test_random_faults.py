"""Many requests with random faults on both sides: none hangs, and none gets another's answer."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import struct
from collections import Counter

import numpy as np
from served_app import stub_server
from stub_reranker import StubReranker, stub_logit

from crossrank.errors import InferenceError, Overloaded

REQUESTS = int(os.environ.get("CROSSRANK_FAULT_REQUESTS", "2000"))
CONNECTIONS = 40
HEAD = "POST /v2/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


def engine(query):
    """What the engine does is in the query: an error, or seconds to wait."""
    kind = query.split()[0]
    if kind == "overloaded":
        raise Overloaded("busy", retry_after=0.5)
    if kind == "broken":
        raise InferenceError(f"failed for {query}")
    if kind == "bug":
        raise RuntimeError("nobody thought of this")
    return 0.02 if kind == "slow" else None


class Wire:
    """A kept connection."""

    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None

    async def open(self):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def send(self, content):
        await self.open()
        self.writer.write(content)
        await self.writer.drain()

    async def answer(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        body = await self.reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return int(head.split()[1]), json.loads(body)

    def close(self, *, reset=False):
        if self.writer is None:
            return
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort() if reset else self.writer.close()
        self.reader = self.writer = None


def request(draw, kind, number):
    query = f"{kind} question {number}"
    documents = [f"document {number} {place} {draw.random()}" for place in range(draw.randint(0, 8))]
    body = json.dumps({"query": query, "documents": documents}).encode()
    return query, documents, HEAD.format(len(body)).encode() + body


def check(query, documents, status, answer):
    """That an answer is this request's, by scores that only its own texts give."""
    kind = query.split()[0]
    assert status == {"overloaded": 429, "broken": 500, "bug": 500}.get(kind, 200), answer
    if kind == "broken":
        assert query in answer["message"]
    if status != 200:
        return
    logits = {item["index"]: item["relevance_score"] for item in answer["results"]}
    wanted = [1 / (1 + np.exp(-stub_logit(query, text))) for text in documents]
    assert sorted(logits) == list(range(len(documents)))
    np.testing.assert_allclose([logits[index] for index in range(len(documents))], wanted, atol=1e-6)


async def one(draw, wire, number, counts):
    fault = draw.choice(["none"] * 6 + ["two", "half", "reset", "garbage", "hang up", "no json", "head only"])
    kind = draw.choice(["plain"] * 5 + ["slow", "overloaded", "broken", "bug"])
    query, documents, content = request(draw, kind, number)
    counts[fault] += 1
    if fault == "none":
        await wire.send(content)
        check(query, documents, *await wire.answer())
    elif fault == "two":  # one after the other without waiting
        other, texts, more = request(draw, draw.choice(["plain", "slow", "broken"]), f"{number} b")
        await wire.send(content + more)
        check(query, documents, *await wire.answer())
        check(other, texts, *await wire.answer())
    elif fault == "no json":
        body = b'{"query": ' + str(number).encode()
        await wire.send(HEAD.format(len(body)).encode() + body)
        status, answer = await wire.answer()
        assert (status, answer["error"]["code"]) == (422, "invalid_json")
    else:
        wire.close()
        part = {
            "half": content[: len(content) - 5],
            "head only": content[:40],
            "garbage": draw.randbytes(300),
            "reset": content,
            "hang up": content,
        }[fault]
        await wire.send(part)
        if draw.random() < 0.5:
            await asyncio.sleep(draw.random() / 100)
        wire.close(reset=fault == "reset")


async def caller(seed, port, numbers, counts):
    draw, wire = random.Random(seed), Wire(port)
    while numbers:
        await asyncio.wait_for(one(draw, wire, numbers.pop(), counts), 60)
    wire.close()


def test_no_request_hangs_and_none_gets_anothers_answer():
    stub, counts = StubReranker(fault=engine), Counter()

    async def main(port):
        numbers = list(range(REQUESTS))
        await asyncio.gather(*(caller(seed, port, numbers, counts) for seed in range(CONNECTIONS)))

    with stub_server(stub) as url:
        asyncio.run(main(int(url.rpartition(":")[2])))
        assert counts.total() == REQUESTS
        assert len(counts) == 8
    assert stub.running == 0
