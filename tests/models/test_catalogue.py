"""The catalogue: what ships parses, is consistent, and is found by every spelling."""

import pytest
from pydantic import ValidationError

from crossrank.models.catalogue import CatalogueEntry, find_entry, load_catalogue, parse_catalogue
from crossrank.models.embedded import EMBEDDED_MODELS
from crossrank.models.templates import TEMPLATES

REQUIRED = [
    "cross-encoder/ms-marco-TinyBERT-L2-v2",
    "cross-encoder/ms-marco-MiniLM-L2-v2",
    "cross-encoder/ms-marco-MiniLM-L4-v2",
    "cross-encoder/ms-marco-MiniLM-L6-v2",
    "cross-encoder/ms-marco-MiniLM-L12-v2",
    "BAAI/bge-reranker-base",
    "BAAI/bge-reranker-large",
    "BAAI/bge-reranker-v2-m3",
    "mixedbread-ai/mxbai-rerank-xsmall-v1",
    "mixedbread-ai/mxbai-rerank-base-v1",
    "Alibaba-NLP/gte-reranker-modernbert-base",
]

ENTRY = """
[[model]]
name = "{name}"
repository = "{repository}"
model_type = "bert"
layers = 2
hidden_size = 128
max_length = {max_length}
uses_segment_ids = true
activation = "{activation}"
licence = "MIT"
parameters_millions = 4.4
languages = ["en"]
note = "A model."
{extra}
"""


def entry(name="small", repository="some/small", max_length="512", activation="identity", extra=""):
    return ENTRY.format(name=name, repository=repository, max_length=max_length, activation=activation, extra=extra)


@pytest.mark.parametrize("repository", REQUIRED)
def test_well_known_models_are_found_by_repository_and_by_short_name(repository):
    model = find_entry(repository)
    assert isinstance(model, CatalogueEntry)
    assert model.repository == repository
    assert find_entry(repository.split("/")[1]) is model


def test_case_does_not_matter():
    assert find_entry("MS-MARCO-minilm-l6-V2") is find_entry("cross-encoder/ms-marco-MiniLM-L6-v2")
    assert find_entry("baai/BGE-Reranker-Base") is find_entry("bge-reranker-base")


def test_former_spellings_of_the_hub_lead_to_the_same_entry():
    assert find_entry("cross-encoder/ms-marco-MiniLM-L-12-v2") is find_entry("ms-marco-MiniLM-L12-v2")


@pytest.mark.parametrize("name", ["", *EMBEDDED_MODELS, "minilm", "ms-marco-MiniLM-L6", "other/ms-marco-MiniLM-L6-v2"])
def test_anything_else_is_not_found(name):
    assert find_entry(name) is None


def test_every_spelling_is_unique():
    keys = [key for model in load_catalogue() for key in model.keys]
    assert len(set(keys)) == len(keys)


def test_ms_marco_models_score_with_identity_and_the_other_encoders_with_sigmoid():
    for model in load_catalogue():
        expected = "identity" if model.name.startswith("ms-marco") else "sigmoid"
        if not model.template:
            assert model.activation == expected, model.name


def test_language_models_score_as_their_template_says_and_the_notes_say_what_was_not_tried():
    language_models = [model for model in load_catalogue() if model.template]

    assert {model.template for model in language_models} == set(TEMPLATES)
    for model in language_models:
        assert model.activation == TEMPLATES[model.template].activation
        assert "not tried" in model.note


def test_an_unknown_template_is_refused():
    with pytest.raises(ValidationError, match="template"):
        parse_catalogue(entry(extra='template = "chat"'))


def test_only_bert_models_use_segment_ids():
    for model in load_catalogue():
        assert model.uses_segment_ids == (model.model_type == "bert"), model.name


@pytest.mark.parametrize(
    ("name", "model_type", "max_length"),
    [
        ("ms-marco-MiniLM-L6-v2", "bert", 512),
        ("bge-reranker-base", "xlm-roberta", 512),
        ("bge-reranker-large", "xlm-roberta", 512),
        ("bge-reranker-v2-m3", "xlm-roberta", 8192),
        ("mxbai-rerank-xsmall-v1", "deberta-v2", 512),
        ("mxbai-rerank-base-v1", "deberta-v2", 512),
        ("gte-reranker-modernbert-base", "modernbert", 8192),
    ],
)
def test_lengths_are_usable_tokens_not_positions(name, model_type, max_length):
    model = find_entry(name)
    assert model is not None
    assert (model.model_type, model.max_length) == (model_type, max_length)


def test_revisions_are_full_commits_or_empty():
    assert all(len(model.revision) in (0, 40) for model in load_catalogue())


def test_the_catalogue_is_read_once():
    assert load_catalogue() is load_catalogue()


def test_entries_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        load_catalogue()[0].activation = "sigmoid"


def test_a_minimal_catalogue_parses():
    (only,) = parse_catalogue(entry())
    assert (only.name, only.revision, only.aliases, only.languages) == ("small", "", (), ("en",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (entry(extra="colour = 'red'"), "colour"),
        (entry(max_length="'512'"), "max_length"),
        (entry(max_length="4"), "max_length"),
        (entry(activation="softmax"), "activation"),
        (entry(repository="no-owner"), "repository"),
        (entry(name="with/slash"), "name"),
        (entry(extra="revision = 'main'"), "revision"),
        (entry() + entry(repository="some/other"), "'small' occurs twice"),
        (entry() + entry(name="other", extra="aliases = ['SOME/small']"), "'some/small' occurs twice"),
        ("", "model"),
    ],
)
def test_a_wrong_catalogue_is_refused_with_its_reason(text, message):
    with pytest.raises(ValidationError, match=message):
        parse_catalogue(text)


def test_ready_onnx_files_have_a_place_and_only_verified_ones_a_known_licence_each():
    ready = {model.name: model.onnx for model in load_catalogue() if model.onnx is not None}
    assert {"ms-marco-MiniLM-L6-v2", "bge-reranker-base", "gte-reranker-modernbert-base"} <= ready.keys()
    assert {name for name, onnx in ready.items() if not onnx.verified} == {
        "ms-marco-MiniLM-L12-v2",
        "bge-reranker-v2-m3",
    }
    assert all(onnx.licence for onnx in ready.values() if onnx.verified)
    assert [name for name, onnx in ready.items() if onnx.repository] == ["bge-reranker-v2-m3"]


@pytest.mark.parametrize(
    ("onnx", "message"),
    [
        ("{ file = 'model.bin', licence = 'MIT', verified = true }", "file"),
        ("{ file = 'model.onnx', licence = 'MIT' }", "verified"),
        ("{ file = 'model.onnx', licence = 'MIT', verified = true, repository = 'x' }", "repository"),
    ],
)
def test_a_wrong_place_of_an_onnx_file_is_refused(onnx, message):
    with pytest.raises(ValidationError, match=message):
        parse_catalogue(entry(extra=f"onnx = {onnx}"))
