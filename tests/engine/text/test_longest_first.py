"""Cutting whichever of query and document is longer: token for token what transformers makes of the same pair."""

from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.config import RerankerConfig
from crossrank.engine.text.encoding import PairEncoder
from crossrank.engine.text.longest_first import cut_longer_queries
from crossrank.errors import InvalidInputError

LONGEST = 64
LENGTHS = st.integers(0, 2 * LONGEST)


@pytest.fixture(params=["bert", "roberta"])
def folder(request, tiny_checkpoint):
    """Three special tokens a pair, and four: the room of a length is odd with one of them and even with the other."""
    return tiny_checkpoint(request.param)


@cache
def theirs(folder):
    return AutoTokenizer.from_pretrained(folder)


@cache
def ours(folder, max_length):
    return PairEncoder.load(folder / "tokenizer.json", max_length=max_length, pad_token_id=0, longest_first=True)


def text_of(tokens, word):
    """A text of about so many tokens."""
    return " ".join([word] * tokens)


def encode(encoder, pairs):
    query_texts, document_texts = (list(dict.fromkeys(part)) for part in zip(*pairs, strict=True))
    query_of = np.asarray([query_texts.index(query) for query, _ in pairs])
    text_of = np.asarray([document_texts.index(document) for _, document in pairs])
    queries = [encoder.encode_query(query) for query in query_texts]
    documents = encoder.encode_documents(document_texts)
    queries, query_of = cut_longer_queries(encoder, queries, query_texts, query_of, documents, document_texts, text_of)
    # `pair` takes one document a pair.
    pairs = encoder.pair(queries, query_of, encoder.encode_documents([document_texts[index] for index in text_of]))
    return encoder.assemble(pairs, np.arange(len(pairs)), int(pairs.lengths.max()))


@given(lengths=st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=5), max_length=st.integers(8, LONGEST))
# Both longer than the room, which is odd for one tokenizer: the longer one gets a token more, of equals the document.
@example(lengths=[(70, 71), (71, 70), (90, 90), (128, 64)], max_length=LONGEST)
@example(lengths=[(61, 61), (60, 61), (62, 61), (61, 62)], max_length=LONGEST)
# Half of the room, one less and one more.
@example(lengths=[(30, 31), (31, 30), (30, 90), (31, 90), (90, 30), (90, 31), (90, 29)], max_length=LONGEST)
@example(lengths=[(0, 90), (90, 0), (0, 0)], max_length=LONGEST)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_pair_is_cut_as_transformers_cuts_it(folder, lengths, max_length):
    pairs = [(text_of(query, "a"), text_of(document, "in")) for query, document in lengths]
    arrays = encode(ours(folder, max_length), pairs)
    for row, (query, document) in enumerate(pairs):
        expected = theirs(folder)([query], [document], truncation="longest_first", max_length=max_length)
        (ids,) = expected["input_ids"]
        assert arrays.input_ids[row, : len(ids)].tolist() == ids
        assert arrays.attention_mask[row].sum() == len(ids)


class CountingTokenizer:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.characters = 0

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def encode(self, text, *pair, **options):
        self.characters += len(text)
        return self._tokenizer.encode(text, *pair, **options)

    def encode_batch_fast(self, texts, **options):
        self.characters += sum(map(len, texts))
        return self._tokenizer.encode_batch_fast(texts, **options)


@pytest.mark.parametrize("longer", ["query", "document"])
def test_of_two_long_texts_little_more_is_tokenized_than_tells_which_is_longer(tiny_checkpoint, longer):
    tokenizer = Tokenizer.from_file(str(tiny_checkpoint("bert") / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counting = CountingTokenizer(tokenizer)
    encoder = PairEncoder(counting, max_length=LONGEST, pad_token_id=0, longest_first=True)
    assert encoder.text_tokens % 2, "of an even number there is no token over, and nothing to find out"
    long, huge = text_of(900, "in"), text_of(200_000, "in")
    query, document = (huge, long) if longer == "query" else (long, huge)
    counting.characters = 0
    arrays = encode(encoder, [(query, document)])
    assert counting.characters < 20 * len(long) < len(huge) / 10
    assert arrays.token_type_ids.sum() == encoder.text_tokens // 2 + 1 + (longer == "document")  # a separator, too


def test_scores_are_those_of_the_cut_pairs_whatever_else_is_in_the_call(tiny_artifact):
    long, short = text_of(100, "river"), "cold water"
    pairs = [(long, long), (short, long), (long, short), (short, short)]
    with ArtifactReranker(tiny_artifact, precision="fp32", truncation="longest_first") as reranker:
        with pytest.warns(UserWarning, match="were cut"):
            together = reranker.score_pairs(pairs)
        with pytest.warns(UserWarning, match="were cut"):
            alone = np.concatenate([reranker.score_pairs([pair]) for pair in pairs])
        np.testing.assert_allclose(together, alone, atol=1e-5)
        with ArtifactReranker(tiny_artifact, precision="fp32") as plain, pytest.warns(UserWarning, match="were cut"):
            other = plain.score_pairs(pairs)
    assert abs(together[2] - other[2]) > 1e-3, "the query keeps more than half, because the document needs little"
    np.testing.assert_allclose(together[[1, 3]], other[[1, 3]], atol=1e-5)


def test_prepared_documents_and_windows_are_refused(tiny_artifact):
    with (
        ArtifactReranker(tiny_artifact, precision="fp32", truncation="longest_first") as reranker,
        ArtifactReranker(tiny_artifact, precision="fp32") as plain,
    ):
        with pytest.raises(InvalidInputError, match="depends on its query"):
            reranker.prepare(["cold water"])
        with pytest.raises(InvalidInputError):
            reranker.rank("river", plain.prepare(["cold water"]))
    with pytest.raises(InvalidInputError, match="leave out one"):
        RerankerConfig("anywhere", truncation="longest_first", long_documents="windows")
    with pytest.raises(InvalidInputError, match="only_second"):
        RerankerConfig("anywhere", truncation="only_first")
