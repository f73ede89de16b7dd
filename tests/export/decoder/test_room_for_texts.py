"""What a template leaves of a pair: documents are read to the same end everywhere, queries are never cut away."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tiny_checkpoints import make_texts
from tiny_decoders import LANGUAGE_MODELS

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


def long_instruction(words):
    return "Find passages about " + " ".join(["rivers"] * words)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_at_every_length_queries_and_documents_count_or_the_length_is_refused(name, decoder_export):
    artifact = decoder_export(name).artifact
    with pytest.raises(InvalidInputError, match="max_length has to be at least") as refused:
        ArtifactReranker(artifact, max_length=special_tokens(artifact) + 3)
    least = int(re.search(r"at least (\d+)", str(refused.value))[1])

    for length in range(least - 3, least):
        with pytest.raises(InvalidInputError, match=f"at least {least}$"):
            ArtifactReranker(artifact, max_length=length)
    for length in (least, least + 1, least + 7):
        with ArtifactReranker(artifact, max_length=length, precision="fp32") as reranker:
            texts = ["the river", "cold water", *LONG]
            scores = np.stack([reranker.score(query, texts) for query in texts])
        for row in (*scores, *scores.T):
            assert len(set(row.tolist())) == len(texts)


def special_tokens(artifact):
    with ArtifactReranker(artifact) as reranker:
        encoder = reranker._loaded.encoder
        return encoder.max_length - encoder.text_tokens


@pytest.mark.parametrize("name", ["qwen3-reranker", "mxbai-rerank-v2"])
def test_an_instruction_is_whole_or_refused_and_never_takes_the_querys_place(name, decoder_export):
    artifact, refused = decoder_export(name).artifact, []
    with ArtifactReranker(artifact, precision="fp32") as reranker:
        for words in range(10, 300, 20):
            instruction = long_instruction(words)
            try:
                scores = [reranker.score(query, LONG, instruction=instruction) for query in ("river", *LONG)]
            except InvalidInputError:
                refused.append(instruction)
            else:
                assert not refused
                assert all(len(set(column.tolist())) == len(scores) for column in np.stack(scores).T)
        assert 0 < len(refused) < 15
        prepared = reranker.prepare(LONG)
        for instruction in refused:
            with pytest.raises(InvalidInputError, match="or the instruction shorter"):
                reranker.rank("river", prepared, instruction=instruction)
    with pytest.raises(InvalidInputError, match="or the instruction shorter"):
        ArtifactReranker(artifact, instruction=refused[0])


def test_a_stage_too_short_for_the_template_or_its_instruction_is_refused_when_the_cascade_is_made(decoder_export):
    artifact = str(decoder_export("qwen3-reranker").artifact)
    with pytest.raises(InvalidInputError, match=r"stage 1 of the cascade.*max_length"):
        Cascade([Stage(artifact, keep=2, max_length=64), Stage(artifact)])
    with ArtifactReranker(artifact, instruction=long_instruction(40)) as reranker:
        encoder = reranker._loaded.encoder
        length = encoder.max_length - encoder.text_tokens + 120
        with pytest.raises(InvalidInputError, match="instruction shorter"):
            reranker.score_indices("river", reranker.prepare(LONG), np.arange(3), max_length=length)
