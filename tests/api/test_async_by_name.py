"""`AsyncReranker` by model name, and the embedded model under many callers."""

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from crossrank import AsyncReranker, InvalidInputError, ModelNotFoundError, Reranker, RerankerStats
from crossrank.models import embedded

EMBEDDED = embedded.Path(embedded.__file__).parent / "default" / "artifact"
QUERY = "what do bees make?"
DOCUMENTS = [
    "Bees make honey from nectar that they collect from flowers.",
    "A beehive has one queen.",
    "Steel is iron with a little carbon, made in furnaces that turn ore into iron at high temperature.",
    "",
    {"id": 7, "text": "Honey keeps for years."},
    "Vaccines show the immune system a harmless piece of a germ, so that it remembers it later on.",
]


def requests():
    """Some documents of each length and order, in requests of any size."""
    return [[DOCUMENTS[(index * step) % len(DOCUMENTS)] for index in range(1 + step)] for step in range(6)]


@pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded model has not been exported")
def test_the_embedded_model_scores_the_same_alone_and_under_many_callers():
    with Reranker(precision="int8", threads=2) as reference:
        alone = [reference.score(QUERY, documents).tobytes() for documents in requests()]

    async def main():
        async with AsyncReranker(precision="int8", threads=2, max_queue_tokens=10**6) as reranker:
            return [
                scores.tobytes()
                for scores in await asyncio.gather(*(reranker.score(QUERY, documents) for documents in requests()))
            ]

    with ThreadPoolExecutor(2) as pool:
        for results in pool.map(lambda _: asyncio.run(main()), range(2)):
            assert results == alone


def test_it_ranks_by_model_name_and_reports(tiny_artifact):
    async def main():
        async with AsyncReranker(tiny_artifact, provider="cpu", precision="fp32") as reranker:
            ranking = await reranker.rank(QUERY, DOCUMENTS, top_k=2)
            assert len(ranking) == 2
            assert ranking[0].document is DOCUMENTS[ranking[0].index]
            stats = reranker.stats()
            assert isinstance(stats, RerankerStats)
            assert (stats.requests, stats.answered, stats.pairs) == (1, 1, len(DOCUMENTS))
            assert 0 <= stats.padded_token_share < 1
            assert stats.encode.count == stats.wait.count == 1
            assert stats.infer.count == stats.runs >= 1
            assert reranker.health().ok
            again = pickle.loads(pickle.dumps(reranker))
            assert again.info() == reranker.info()
            await again.aclose()

    asyncio.run(main())


def test_wrong_models_and_options_are_refused_as_by_the_synchronous_one():
    with pytest.raises(ModelNotFoundError):
        AsyncReranker("nothing goes by this name")
    with pytest.raises(InvalidInputError, match="max_queue_tokens=0"):
        AsyncReranker(max_queue_tokens=0)
    with pytest.raises(InvalidInputError, match="max_wait_ms=-1"):
        AsyncReranker(max_wait_ms=-1)
