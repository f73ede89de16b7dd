"""`score_indices`: scores of some of the documents that were prepared."""

import numpy as np
import pytest

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import InvalidInputError

DOCUMENTS = ["wind tunnel results", "the old café", "cold water"]


@pytest.fixture(scope="module")
def engine(tiny_artifact):
    with ArtifactReranker(tiny_artifact, activation="identity") as reranker:
        yield reranker


def test_the_scores_are_those_of_the_chosen_documents(engine):
    prepared = engine.prepare(DOCUMENTS)
    scores = engine.score_indices("a query", prepared, np.array([2, 0]))
    np.testing.assert_allclose(scores.logits, engine.score("a query", DOCUMENTS)[[2, 0]], atol=1e-5, rtol=0)
    assert len(engine.score_indices("a query", prepared, np.array([])).logits) == 0


@pytest.mark.parametrize(
    ("indices", "options", "message"),
    [
        ([0, 3], {}, "indices has 3: the 3 documents are 0 to 2"),
        ([-1], {}, "indices has -1"),
        ([0.0], {}, "whole numbers in a row"),
        ([True, False, True], {}, "whole numbers in a row"),
        ([[0]], {}, "whole numbers in a row"),
        ([0], {"max_length": "x"}, "max_length='x': a whole number"),
    ],
)
def test_what_names_no_document_is_refused(indices, options, message, engine):
    with pytest.raises(InvalidInputError, match=message):
        engine.score_indices("a query", engine.prepare(DOCUMENTS), np.array(indices), **options)
