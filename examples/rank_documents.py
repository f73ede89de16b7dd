"""Rank documents with the embedded model: nothing is downloaded."""

from crossrank import Reranker

DOCUMENTS = [
    "The stock market closed higher on Friday.",
    {"id": "imm-1", "text": "Vaccines show the immune system a harmless piece of a germ, so that it remembers it."},
    "Immune cells that met a germ once answer faster the next time.",
]


def main() -> None:
    with Reranker() as reranker:
        ranking = reranker.rank("how do vaccines work?", DOCUMENTS, top_k=2)
        for item in ranking:
            print(f"{item.score:8.3f}  document {item.index}  {item.document}")
        print(f"{ranking.scored} scored, {ranking.truncated_documents} cut to the model's length")
        print(reranker.score("how do vaccines work?", DOCUMENTS))
        print(reranker.info())


if __name__ == "__main__":
    main()
