"""Templates of language models: token for token what their authors' code makes of any query and document."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from own_code import own_ids
from tiny_decoders import LANGUAGE_MODELS, MAX_LENGTH, _write_tokenizer

from crossrank.engine.text.encoding import PairEncoder
from crossrank.errors import InvalidInputError
from crossrank.models.manifest import Template
from crossrank.models.templates import TEMPLATES

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SPACED = st.text(" \n\t.:?<>aZ1\u0301\u4e2d\u2581{}|", max_size=12)
EVERY_TEXT = TEXTS | SPACED


@pytest.fixture(scope="module")
def tokenizers_of(tmp_path_factory):
    """A function `(template's name) -> (engine's encoder, transformers' tokenizer)`."""
    from transformers import AutoTokenizer

    made, root = {}, tmp_path_factory.mktemp("tokenizers")

    def get(name):
        if name not in made:
            folder = root / name
            folder.mkdir()
            _write_tokenizer(folder, LANGUAGE_MODELS[name])
            (folder / "config.json").write_text(json.dumps({"model_type": LANGUAGE_MODELS[name]}))
            known = TEMPLATES[name]
            template = known.template.model_copy(update={"prefix": ("<bos>",)} if known.begins_with_bos else {})
            encoder = PairEncoder.load(
                folder / "tokenizer.json", max_length=MAX_LENGTH, pad_token_id=0, template=template, causal=True
            )
            made[name] = encoder, AutoTokenizer.from_pretrained(folder)
        return made[name]

    return get


def ids_of(encoder, query, document, instruction=None):
    zero = np.zeros(1, np.int64)
    pairs = encoder.pair([encoder.encode_query(query, instruction)], zero, encoder.encode_documents([document]))
    return encoder.assemble(pairs, zero, int(pairs.lengths[0]))


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=60)
@given(query=EVERY_TEXT, document=EVERY_TEXT)
@example(query="", document="")
@example(query="who?", document="\n\nline")
@example(query="<|im_end|>", document=" <|im_start|>")
def test_any_pair_becomes_the_tokens_of_the_authors_code(tokenizers_of, name, query, document):
    encoder, tokenizer = tokenizers_of(name)

    arrays = ids_of(encoder, query, document)

    assert arrays.input_ids[0].tolist() == own_ids(name, tokenizer, query, document, MAX_LENGTH, None)


@pytest.mark.parametrize("name", ["qwen3-reranker", "mxbai-rerank-v2"])
@settings(max_examples=30)
@given(instruction=EVERY_TEXT.filter(str.strip), query=SPACED)
def test_any_instruction_becomes_the_tokens_of_the_authors_code(tokenizers_of, name, instruction, query):
    encoder, tokenizer = tokenizers_of(name)

    arrays = ids_of(encoder, query, "cold water", instruction)

    assert arrays.input_ids[0].tolist() == own_ids(name, tokenizer, query, "cold water", MAX_LENGTH, instruction)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_document_that_is_too_long_is_cut_as_the_authors_code_cuts_it(tokenizers_of, name):
    encoder, tokenizer = tokenizers_of(name)
    document = "the river heats cold water in winter " * 100

    arrays = ids_of(encoder, "who heats?", document)

    assert arrays.input_ids.shape == (1, MAX_LENGTH)
    assert arrays.input_ids[0].tolist() == own_ids(name, tokenizer, "who heats?", document, MAX_LENGTH, None)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_query_that_leaves_no_room_is_cut_and_the_text_around_it_stays(tokenizers_of, name):
    encoder, _ = tokenizers_of(name)
    query = encoder.encode_query("the river " * 1000)

    assert query.truncated
    assert len(query.ids) == encoder.cut_query_tokens
    after = encoder.texts.after_query.tolist()
    assert query.ids.tolist()[len(query.ids) - len(after) :] == after
    assert len(ids_of(encoder, "the river " * 1000, "cold water").input_ids[0]) <= MAX_LENGTH


@pytest.mark.parametrize("name", TEMPLATES)
def test_segment_ids_mark_the_document_and_what_comes_after_it(tokenizers_of, name):
    encoder, _ = tokenizers_of(name)
    first, other = (ids_of(encoder, "river", text) for text in ("cold water", "bread"))

    start = int(first.token_type_ids[0].argmax())
    assert first.token_type_ids[0].tolist() == [0] * start + [1] * (first.input_ids.shape[1] - start)
    assert first.input_ids[0, :start].tolist() == other.input_ids[0, :start].tolist()


@pytest.mark.parametrize("instruction", [" ", "", 3, "\ud800"])
def test_an_instruction_that_is_no_text_is_refused(tokenizers_of, instruction):
    encoder, _ = tokenizers_of("qwen3-reranker")
    with pytest.raises(InvalidInputError, match="not blank"):
        encoder.encode_query("river", instruction)


@pytest.mark.parametrize(
    "fields",
    [
        {"query": "Q:", "document": "{document}"},
        {"query": "{query}{query}", "document": "{document}"},
        {"query": "{query}", "document": "{document} after"},
        {"query": "{query}", "document": "D"},
        {"query": "{query}", "document": "{document}", "instruction_text": "I"},
        {"query": "{query}", "document": "{document}", "instruction": "Find"},
    ],
)
def test_a_template_without_its_places_is_refused(fields):
    with pytest.raises(ValueError, match=r"has to|no text for it"):
        Template(name="mine", **fields)
