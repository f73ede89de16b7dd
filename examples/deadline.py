"""Bound the time of a call, and show rankings while they improve."""

from crossrank import DeadlineExceeded, Reranker

TOPICS = ["bees make honey", "steel is iron with carbon", "vaccines train immune cells", "rivers carry cold water"]
DOCUMENTS = [f"{TOPICS[index % 4]}, says source number {index}." for index in range(400)]
FIRST_STAGE = [1 / (1 + index) for index in range(400)]


def main() -> None:
    with Reranker() as reranker:
        reranker.warmup()
        for budget in (20, 100, 60_000):
            ranking = reranker.rank("what do bees make?", DOCUMENTS, deadline_ms=budget, first_stage_scores=FIRST_STAGE)
            print(f"{budget} ms: {ranking.scored} scored, {len(ranking.unscored)} not ({ranking.unscored_because})")
        print("best:", ranking[0].document)

        # Documents that were not scored in time follow the scored ones, without a score.
        ranking = reranker.rank("what do bees make?", DOCUMENTS, deadline_ms=20)
        print("last:", ranking[-1].document, ranking[-1].score)

        # `score` returns all scores or raises.
        try:
            reranker.score("what do bees make?", DOCUMENTS, deadline_ms=5)
        except DeadlineExceeded as error:
            print(error)

        for ranking in reranker.iter_rank("how is steel made?", DOCUMENTS, top_k=1):
            print(f"after {ranking.scored:3d}: {ranking[0].document}")


if __name__ == "__main__":
    main()
