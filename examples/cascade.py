"""Rank many documents in stages: the beginnings of all of them first, then the best of them whole."""

from crossrank import Cascade, Reranker, Stage

DOCUMENTS = [
    f"Note {number} on {topic}. It was written on a {day} and says little else that anybody would want to know."
    for number, (topic, day) in enumerate(
        (topic, day)
        for topic in ("steel", "honey bees", "tax law", "glaciers", "violins", "vaccines")
        for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
    )
]


def main() -> None:
    # One model in both stages is loaded once; `Cascade.default()` has numbers that were tuned for a thousand documents.
    with Cascade([Stage("default", keep=8, max_length=24), Stage("default")]) as cascade:
        ranking = cascade.rank("who knows about honey bees?", DOCUMENTS, top_k=3)
        for item in ranking:
            print(f"{item.score:8.3f}  stage {item.stage}  {item.document}")
        for stage in ranking.stages:
            print(f"{stage.model} read {stage.scored} documents, {stage.max_length} tokens a pair at most")

    # With a score cache, the same query and document are scored once.
    with Reranker(score_cache_bytes=10_000_000) as reranker:
        first = reranker.score("who knows about honey bees?", DOCUMENTS)
        again = reranker.score("who knows about honey bees?", DOCUMENTS)
        print((first == again).all(), reranker.info().score_cache)


if __name__ == "__main__":
    main()
