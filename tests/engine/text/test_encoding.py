"""Pairs as token arrays: equal, token for token, to what transformers makes of them."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from tiny_checkpoints import FAMILIES, make_texts
from transformers import AutoTokenizer

from crossrank.engine.text import reading
from crossrank.engine.text.encoding import PairEncoder
from crossrank.errors import ArtifactError, InvalidInputError
from crossrank.export.checkpoint.checkpoint import read_checkpoint
from crossrank.export.checkpoint.tokenizer import write_tokenizer

DEFAULT_CHECKPOINT = Path(__file__).parents[3] / "models" / "default" / "checkpoint"
PAD = {"roberta": 1, "xlm-roberta": 1, "modernbert": 3}

PIECES = st.sampled_from(
    [
        *("[SEP]", "[CLS]", "[PAD]", "[UNK]", "[MASK]", "<s>", "</s>", "<pad>", "<unk>", "<mask>"),
        *("##ing", "▁", "Ġ", " ", "\n", "\t", "\x00", "\u00a0", "\u2028", "\ufeff", "\u200d"),
        *("the river", "Zürich", "Zu\u0308rich", "日本語", "İstanbul", "ﬁne", "👩‍🚀", "e\u0301", "3.5%", "don't"),
        "word " * 100,
        "x" * 300,
    ]
)
TEXTS = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=6).map("".join), PIECES)


@pytest.fixture(params=[*FAMILIES, "default"])
def family(request, tiny_checkpoint):
    """Folder of a checkpoint of each family, and of the default model with its real vocabulary; and its pad id."""
    folder = DEFAULT_CHECKPOINT if request.param == "default" else tiny_checkpoint(request.param)
    return folder, PAD.get(request.param, 0)


@cache
def theirs(folder):
    return AutoTokenizer.from_pretrained(folder)


@cache
def ours(folder, max_length, pad):
    # As an export makes it: some versions of transformers read a tokenizer otherwise than its file says.
    with tempfile.TemporaryDirectory() as made:
        name = write_tokenizer(read_checkpoint(folder).tokenizer, Path(made))
        return PairEncoder.load(Path(made) / name, max_length=max_length, pad_token_id=pad)


def encode(encoder, query, documents, length=None):
    """One query and its documents as arrays, in the documents' order."""
    pairs = encoder.pair(
        [encoder.encode_query(query)], np.zeros(len(documents), dtype=np.int64), encoder.encode_documents(documents)
    )
    return pairs, encoder.assemble(pairs, np.arange(len(documents)), length or int(pairs.lengths.max()))


def leaves_room(folder, query, max_length):
    tokenizer = theirs(folder)
    query_tokens = len(tokenizer(query, add_special_tokens=False, verbose=False)["input_ids"])
    return query_tokens < max_length - tokenizer.num_special_tokens_to_add(pair=True)


def assert_equal_to_transformers(folder, pad, query, document, max_length):
    tokenizer, encoder = theirs(folder), ours(folder, max_length, pad)
    # Lists: given two bare strings, transformers takes an empty second one for none at all.
    options = {"return_token_type_ids": True, "return_attention_mask": True}
    expected = tokenizer([query], [document], truncation="only_second", max_length=max_length, **options)
    whole = tokenizer([query], [document], truncation=False, verbose=False)["input_ids"][0]
    pairs, arrays = encode(encoder, query, [document])
    assert arrays.input_ids.tolist() == expected["input_ids"]
    assert arrays.token_type_ids.tolist() == expected["token_type_ids"]
    assert arrays.attention_mask.tolist() == expected["attention_mask"]
    assert pairs.truncated.tolist() == [len(whole) > max_length]
    assert not pairs.queries_truncated


@given(query=TEXTS, document=TEXTS, max_length=st.integers(8, 64))
@example(query="", document="", max_length=64)
@example(query="", document="the river", max_length=64)
@example(query="the river", document="", max_length=64)
@example(query="[CLS] the [SEP] river [SEP]", document="</s><s> cold water </s>", max_length=64)
@settings(max_examples=70, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_pair_equals_transformers_token_for_token(family, query, document, max_length):
    assume(leaves_room(family[0], query, max_length))
    assert_equal_to_transformers(*family, query, document, max_length)


def test_real_sentences_of_many_lengths_equal_transformers(family):
    queries, documents = make_texts(40, seed=5), make_texts(40, seed=6)
    for index, (query, document) in enumerate(zip(queries, documents, strict=True)):
        assert leaves_room(family[0], query[:20], 24 + index)
        assert_equal_to_transformers(*family, query[:20], document, 24 + index)


@given(data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_batch_holds_each_pairs_own_tokens_then_padding(family, data):
    folder, pad = family
    encoder = ours(folder, 32, pad)
    queries = data.draw(st.lists(TEXTS, min_size=1, max_size=3))
    documents = data.draw(st.lists(TEXTS, min_size=1, max_size=6))
    query_of = data.draw(st.lists(st.integers(0, len(queries) - 1), min_size=len(documents), max_size=len(documents)))
    indices = data.draw(st.lists(st.integers(0, len(documents) - 1), min_size=1, max_size=6))
    pairs = encoder.pair(
        [encoder.encode_query(query) for query in queries], np.asarray(query_of), encoder.encode_documents(documents)
    )
    length = int(pairs.lengths[indices].max()) + data.draw(st.integers(0, 5))
    batch = encoder.assemble(pairs, np.asarray(indices), length)
    assert batch.input_ids.shape == batch.attention_mask.shape == batch.token_type_ids.shape == (len(indices), length)
    for row, index in enumerate(indices):
        _, alone = encode(encoder, queries[query_of[index]], [documents[index]])
        tokens = alone.input_ids.shape[1]
        assert tokens == pairs.lengths[index] <= 32
        assert batch.input_ids[row].tolist() == alone.input_ids[0].tolist() + [pad] * (length - tokens)
        assert batch.token_type_ids[row].tolist() == alone.token_type_ids[0].tolist() + [0] * (length - tokens)
        assert batch.attention_mask[row].tolist() == [1] * tokens + [0] * (length - tokens)


@pytest.mark.parametrize("max_length", [8, 9, 20])
def test_a_query_that_leaves_no_room_is_cut_to_half_of_the_text_tokens_and_reported(family, max_length):
    folder, pad = family
    encoder, tokenizer = ours(folder, max_length, pad), theirs(folder)
    room = max_length - encoder.template.special_tokens
    query, document = "the river heats cold water " * 9, "every reader ranks long documents " * 9
    query_ids = tokenizer(query, add_special_tokens=False)["input_ids"]
    document_ids = tokenizer(document, add_special_tokens=False)["input_ids"]
    pairs, arrays = encode(encoder, query, [document, ""])
    half = room // 2
    assert encoder.cut_query_tokens == half
    assert pairs.queries_truncated
    assert pairs.truncated.tolist() == [True, False]
    template = encoder.template
    assert arrays.input_ids[0].tolist() == [
        *template.prefix,
        *query_ids[:half],
        *template.middle,
        *document_ids[: room - half],
        *template.suffix,
    ]
    assert pairs.lengths.tolist() == [max_length, template.special_tokens + half]


def test_the_longest_query_that_is_not_cut_leaves_one_token_for_the_document(tiny_checkpoint):
    encoder = ours(tiny_checkpoint("bert"), 20, 0)
    whole = encoder.encode_query("? " * encoder.max_query_tokens)
    assert (len(whole.ids), whole.truncated) == (encoder.max_query_tokens, False)
    assert encoder.max_query_tokens == 16
    cut = encoder.encode_query("? " * (encoder.max_query_tokens + 1))
    assert (len(cut.ids), cut.truncated) == (8, True)


@pytest.mark.parametrize(("documents", "size"), [(256, 1_000_000), (1, 1_000_000), (3, 40), (256, 1)])
def test_chunks_change_nothing(tiny_checkpoint, monkeypatch, documents, size):
    encoder = ours(tiny_checkpoint("bert"), 64, 0)
    texts = ["", *make_texts(300, seed=2), "", "? " * 500]
    monkeypatch.setattr(reading, "_CHUNK_DOCUMENTS", documents)
    monkeypatch.setattr(reading, "_CHUNK_BYTES", size)
    together = encoder.encode_documents(texts)
    assert len(together) == len(texts)
    for index, text in enumerate(texts):
        alone = encoder.encode_documents([text])
        mine = together.ids[together.offsets[index] : together.offsets[index + 1]]
        assert mine.tolist() == alone.ids.tolist()
        assert together.full_lengths[index] == alone.full_lengths[0]
    assert together.full_lengths[-1] == encoder.text_tokens + 1


@given(
    texts=st.lists(st.text(alphabet="x日", max_size=30), max_size=40),
    documents=st.integers(1, 8),
    size=st.integers(1, 60),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chunks_are_bounded_in_bytes_and_cover_every_text_once(tiny_checkpoint, texts, documents, size):
    encoder, chunks = ours(tiny_checkpoint("bert"), 64, 0), []
    encode = reading.TextReader._encode_batch

    def record(self, chunk, *, spans):
        chunks.append(chunk)
        return encode(self, chunk, spans=spans)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_CHUNK_DOCUMENTS", documents)
        patch.setattr(reading, "_CHUNK_BYTES", size)
        patch.setattr(reading.TextReader, "_encode_batch", record)
        encoder.encode_documents(texts)
    assert [text for chunk in chunks for text in chunk] == texts
    for chunk in chunks:
        assert 1 <= len(chunk) <= documents
        assert len(chunk) == 1 or sum(len(text.encode()) for text in chunk) <= size


def test_no_documents_are_encoded_as_none(tiny_checkpoint):
    documents = ours(tiny_checkpoint("bert"), 64, 0).encode_documents([])
    assert (len(documents), documents.ids.tolist(), documents.offsets.tolist()) == (0, [], [0])


@pytest.mark.parametrize("max_length", [1, 3, 4])
def test_a_length_without_room_for_both_texts_is_refused(tiny_checkpoint, max_length):
    with pytest.raises(InvalidInputError, match=rf"max_length={max_length}: at least 5 expected"):
        ours(tiny_checkpoint("bert"), max_length, 0)
    assert ours(tiny_checkpoint("bert"), 5, 0).max_query_tokens == 1


def test_truncation_and_padding_that_a_tokenizer_file_asks_for_are_not_applied(tiny_checkpoint, tmp_path):
    tokenizer = theirs(tiny_checkpoint("bert")).backend_tokenizer.__class__.from_file(
        str(tiny_checkpoint("bert") / "tokenizer.json")
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = PairEncoder.load(tmp_path / "tokenizer.json", max_length=64, pad_token_id=0)
    assert len(encoder.encode_query("? " * 9).ids) == 9
    assert encoder.encode_documents(["? " * 9, "?"]).full_lengths.tolist() == [9, 1]
    assert encoder.template.special_tokens == 3


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"model": 5}')
    with pytest.raises(ArtifactError, match=r"cannot read the tokenizer .*tokenizer\.json"):
        PairEncoder.load(tmp_path / "tokenizer.json", max_length=64, pad_token_id=0)
