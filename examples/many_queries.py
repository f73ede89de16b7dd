"""Score several queries at once, from several threads, with one reranker."""

from concurrent.futures import ThreadPoolExecutor

from crossrank import Reranker

QUERIES = ["what do bees make?", "how is steel made?"]
DOCUMENTS = [
    ["Bees make honey from nectar.", "A beehive has a queen."],
    ["Steel is iron with a little carbon.", "Blast furnaces turn ore into iron.", "Bees fly."],
]


def main() -> None:
    with Reranker(activation="sigmoid") as reranker:
        for query, scores in zip(QUERIES, reranker.score_many(QUERIES, DOCUMENTS), strict=True):
            print(query, scores.round(3))
        with ThreadPoolExecutor(2) as pool:
            rankings = list(pool.map(reranker.rank, QUERIES, DOCUMENTS))
        print([ranking[0].document for ranking in rankings])


if __name__ == "__main__":
    main()
