"""What a template leaves of a pair: documents are read to the same end everywhere, queries are never cut away."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_checkpoints import make_texts

from crossrank import Cascade, Stage
from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.text.windows import Windows
from crossrank.errors import InvalidInputError

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

LONG = [" ".join(make_texts(40, seed=seed)) for seed in (1, 2, 3)]


def test_documents_prepared_for_a_template_that_takes_more_room_are_refused_and_cascades_encode_them_anew(
    decoder_export,
):
    artifacts = [decoder_export(name).artifact for name in ("mxbai-rerank-v2", "qwen3-reranker")]
    with ArtifactReranker(artifacts[0]) as first, ArtifactReranker(artifacts[1]) as second:
        expected = second.score("", LONG)
        for made_by, taken_by in ((first, second), (second, first)):
            with pytest.raises(InvalidInputError, match="template"):
                taken_by.score("", made_by.prepare(LONG))
    with Cascade([Stage(str(artifacts[0]), keep=3), Stage(str(artifacts[1]))]) as cascade:
        found = {item.index: item.score for item in cascade.rank("", LONG)}
    np.testing.assert_allclose([found[index] for index in range(3)], expected, atol=1e-6)


def test_tokens_that_were_not_kept_are_never_read_from_the_next_document(decoder_export):
    windows = Windows(tokens=20, max_windows_per_document=1)
    with ArtifactReranker(decoder_export("qwen3").artifact, long_documents=windows) as reranker:
        prepared = reranker.prepare(LONG)
        with pytest.raises(InvalidInputError, match="20 tokens were kept"):
            reranker.score_indices("river", prepared, np.arange(3), max_length=64)
