"""Closing: twice is once, and after it every call says so."""

import pytest

from crossrank.models.errors import ClosedError


@pytest.mark.parametrize(
    "call",
    [
        lambda engine: engine.score("q", ["d"]),
        lambda engine: engine.score("q", []),
        lambda engine: engine.score_pairs([("q", "d")]),
        lambda engine: engine.score_many(["q"], [["d"]]),
        lambda engine: engine.rank("q", ["d"]),
        lambda engine: engine.prepare(["d"]),
        lambda engine: engine.warmup(),
        lambda engine: engine.calibrate(),
    ],
)
def test_every_call_after_closing_is_refused(reranker, call):
    engine = reranker()
    engine.close()
    engine.close()
    with pytest.raises(ClosedError, match="was closed"):
        call(engine)


def test_leaving_the_context_closes_also_by_an_error(reranker):
    engine = reranker()
    with engine as entered:
        assert entered is engine
        assert len(engine.score("q", ["d"])) == 1
    with pytest.raises(ClosedError):
        engine.score("q", ["d"])
    failing = reranker()
    with pytest.raises(KeyError), failing:
        raise KeyError
    with pytest.raises(ClosedError):
        failing.score("q", ["d"])


def test_what_ran_can_be_told_after_closing(reranker):
    engine = reranker()
    before = engine.info()
    engine.close()
    assert engine.info() == before
