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

        # A request whose caller gives up is removed from the queue, and the rest of it is not scored. Its documents are
        # all different here, because equal ones are scored once and would be finished in time.
        many = [f"{text} ({number})" for number in range(400) for text in DOCUMENTS]
        try:
            await asyncio.wait_for(reranker.score("who?", many), timeout=0.05)
        except TimeoutError:
            print("gave up after 50 ms")

        stats = reranker.stats()
        print(f"{stats.requests} requests, {stats.pairs} pairs in {stats.runs} runs, {len(batches)} of them observed")
        print(f"waited {stats.wait.p50 * 1000:.1f} ms at the median, runs took {stats.infer.p50 * 1000:.1f} ms")
        print(reranker.health())


if __name__ == "__main__":
    asyncio.run(main())
