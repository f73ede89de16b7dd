"""Serve many callers from one event loop: they share the cores, and a full queue refuses requests."""

import asyncio
import random

from crossrank import AsyncReranker, Overloaded

DOCUMENTS = [
    "Bees make honey from nectar.",
    "A beehive has one queen and thousands of workers.",
    "Steel is iron with a little carbon.",
    "Blast furnaces turn ore into iron.",
    "Vaccines show the immune system a harmless piece of a germ.",
]
QUERIES = ["what do bees make?", "how is steel made?", "how do vaccines work?"]


async def handle(reranker: AsyncReranker, query: str) -> str:
    """One request of the service, tried once more if the queue was full."""
    for _ in range(2):
        try:
            ranking = await reranker.rank(query, DOCUMENTS, top_k=1, deadline_ms=2_000)
        except Overloaded as busy:
            await asyncio.sleep(busy.retry_after)
        else:
            return f"{query} {ranking[0].document}"
    return f"{query} (too busy)"


async def main() -> None:
    batches: list[int] = []
    async with AsyncReranker(max_queue_tokens=50_000) as reranker:
        reranker.observe_batches(lambda batch: batches.append(batch.pairs))
        answers = await asyncio.gather(*(handle(reranker, random.choice(QUERIES)) for _ in range(12)))  # noqa: S311
        print("\n".join(sorted(set(answers))))

        # A caller that goes away leaves the queue: nothing of its request is scored any more, except runs in progress.
        # This one goes when the first of its runs is done, as a client that closes its connection would.
        many = [f"{text} ({number})" for number in range(400) for text in DOCUMENTS]
        begun, loop = asyncio.Event(), asyncio.get_running_loop()
        reranker.observe_batches(lambda _: loop.call_soon_threadsafe(begun.set))
        request = asyncio.create_task(reranker.score("who?", many))
        await begun.wait()
        request.cancel()
        try:
            await request
        except asyncio.CancelledError:
            print(f"gave up, {len(many)} documents were not all scored")
        reranker.observe_batches(None)

        stats = reranker.stats()
        print(f"{stats.requests} requests, {stats.pairs} pairs in {stats.runs} runs, {len(batches)} of them observed")
        print(f"waited {stats.wait.p50 * 1000:.1f} ms at the median, runs took {stats.infer.p50 * 1000:.1f} ms")
        print(reranker.health())


if __name__ == "__main__":
    asyncio.run(main())
