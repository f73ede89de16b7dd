"""Instructions of any length: counted off the event loop, not kept, and named where they are too long."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tiny_artifacts import with_instruction

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.async_artifact_reranker import AsyncArtifactReranker
from crossrank.engine.text.encoding import PairEncoder
from crossrank.errors import InvalidInputError


@pytest.fixture(scope="module")
def instructed(tiny_artifact, tmp_path_factory):
    return with_instruction(tiny_artifact, tmp_path_factory.mktemp("instructed") / "artifact")


def test_a_long_one_is_counted_by_another_thread_than_the_event_loops(instructed, monkeypatch):
    threads = []
    check = PairEncoder.check_instruction
    monkeypatch.setattr(
        PairEncoder,
        "check_instruction",
        lambda self, text: (threads.append(threading.current_thread()), check(self, text))[1],
    )

    async def main():
        async with AsyncArtifactReranker(ArtifactReranker(instructed)) as reranker:
            threads.clear()
            with pytest.raises(InvalidInputError, match=r"^instruction='a a"):
                await reranker.rank("a query", ["cold water"], instruction="a " * 150_000)

    asyncio.run(main())
    assert threads
    assert threading.main_thread() not in threads


def test_long_ones_are_not_kept_in_memory(instructed):
    with ArtifactReranker(instructed) as reranker:
        for number in range(3):
            with pytest.raises(InvalidInputError, match="too long"):
                reranker.rank("a query", ["cold water"], instruction=f"{number} " * 100_000)
        counts = reranker._loaded.encoder._room._counts
        assert len(counts) >= 3
        assert all(len(key) <= 64 for key in counts)
