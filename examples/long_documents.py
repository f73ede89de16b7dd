"""Rank a long document by its best passage, and show that passage."""

from crossrank import Reranker, Windows

CHAPTERS = [
    "The house stood at the end of a long road, and in winter nobody came there for weeks. " * 12,
    "Bees make honey from the nectar of flowers: they carry it home, thicken it with their wings and seal it in wax. ",
    "In spring the road was mended, and the first guests arrived with their horses. " * 12,
]
DOCUMENTS = ["".join(CHAPTERS), "A beehive is a box of wood.", "Cars burn petrol."]
QUERY = "how do bees make honey?"


def main() -> None:
    # Small windows, so that the passage is short; without `tokens` only documents that do not fit the model are cut.
    with Reranker(long_documents=Windows(tokens=64, stride=32)) as reranker:
        for item in reranker.rank(QUERY, DOCUMENTS):
            window = item.window
            passage = DOCUMENTS[item.index][window.start : window.end]
            print(f"{item.score:8.3f}  document {item.index}, window {window.index + 1} of {window.count}: {passage!r}")


if __name__ == "__main__":
    main()
