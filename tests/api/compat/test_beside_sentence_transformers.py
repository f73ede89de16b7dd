"""Side by side with sentence-transformers, on the same checkpoints, in one process: scores, order, shapes, mistakes.

Only where sentence-transformers 6 is installed, which asks for transformers 5: `make transformers-5` and `make newest`.
`test_cross_encoder.py` compares with transformers everywhere.
"""

from __future__ import annotations

import inspect
import json
import shutil

import numpy as np
import pytest
from cross_encoder_calls import REFUSED_BY_BOTH, REFUSED_HERE
from tiny_checkpoints import make_pairs, make_texts

from crossrank.compat import CrossEncoder

sentence_transformers = pytest.importorskip(
    "sentence_transformers", minversion="6", reason="sentence-transformers 6 is not here: make transformers-5 has it"
)
torch = pytest.importorskip("torch")

QUERY = "the old café carries wind-tunnel results"
LONG_QUERY = "the river heats cold water " * 20
PAIRS = [
    *make_pairs(40, seed=51),
    ("", ""),
    ("who reads", ""),
    ("", "cold water"),
    # Longer than the model takes, by the document, by the query, and by both.
    (QUERY, "boundary layers " * 60),
    (LONG_QUERY, "cold water"),
    (LONG_QUERY, "boundary layers " * 60),
]
ACTIVATIONS = {
    "default": None,
    "identity": torch.nn.Identity(),
    "sigmoid": torch.nn.Sigmoid(),
    "a function": torch.tanh,
    "one that sees its batch": torch.nn.Softmax(dim=0),
    "one that gives whole numbers": lambda logits: (logits > 0).long(),
}


class Both:
    """The same checkpoint in both libraries."""

    def __init__(self, folder, **options):
        self.theirs = sentence_transformers.CrossEncoder(str(folder), device="cpu", **options)
        self.ours = CrossEncoder(str(folder), device="cpu", **options)

    def predict(self, inputs, **options):
        return self.theirs.predict(inputs, **options), self.ours.predict(inputs, **options)

    def rank(self, *arguments, **options):
        return self.theirs.rank(*arguments, **options), self.ours.rank(*arguments, **options)


@pytest.fixture(scope="module")
def both(tiny_checkpoint):
    made = {}

    def get(family, num_labels=1):
        if (family, num_labels) not in made:
            made[family, num_labels] = Both(tiny_checkpoint(family, num_labels=num_labels))
        return made[family, num_labels]

    yield get
    for models in made.values():
        models.ours.close()


def assert_same(theirs, ours):
    """Of one type, shape and dtype, and equal within 1e-4."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for their, our in zip(theirs, ours, strict=True):
            assert_same(their, our)
        return
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "modernbert", "deberta-v2"])
def test_scores_of_every_family_are_the_same_under_every_activation(family, both):
    models = both(family)
    assert np.std(models.theirs.predict(PAIRS, activation_fn=torch.nn.Identity())) > 0.1
    for name, activation in ACTIVATIONS.items():
        theirs, ours = models.predict(PAIRS, batch_size=16, activation_fn=activation)
        assert_same(theirs, ours)
        assert name == "one that gives whole numbers" or len(np.unique(theirs)) > len(PAIRS) // 2


def test_two_labels_give_both_where_the_activation_is_stated(both):
    models = both("bert", 2)
    for activation in (
        torch.nn.Identity(),
        torch.nn.Softmax(dim=1),
        torch.tanh,
        lambda logits: logits.argmax(dim=1),
        lambda logits: logits[:, :1],
    ):
        for inputs in (PAIRS, PAIRS[:1], PAIRS[0], []):
            for options in ({}, {"apply_softmax": True}, {"convert_to_tensor": True}, {"convert_to_numpy": False}):
                assert_same(*models.predict(inputs, activation_fn=activation, **options))
    for model in (models.theirs, models.ours):
        with pytest.raises(ValueError, match="label"):
            model.rank(QUERY, ["cold water"])


def test_every_form_of_input_gives_the_same_form_of_output(both):
    models = both("bert")
    inputs = [
        PAIRS,
        tuple(PAIRS),
        [list(pair) for pair in PAIRS],
        PAIRS[:1],
        [],
        (),
        np.array(PAIRS),
        np.array(PAIRS, dtype=object),
        np.array([], dtype=str),
        PAIRS[0],
        list(PAIRS[0]),
        np.array(PAIRS[0]),
        [(np.str_("who reads"), np.str_("cold water"))],
    ]
    for form in ({}, {"apply_softmax": True}, {"convert_to_numpy": False}, {"convert_to_tensor": True}):
        for given in inputs:
            assert_same(*models.predict(given, **form))
    for activation, options in (
        (ACTIVATIONS["one that gives whole numbers"], {"convert_to_tensor": True}),
        (lambda logits: torch.cat([logits, -logits], dim=1), {"apply_softmax": True}),
    ):
        assert_same(*models.predict(PAIRS, activation_fn=activation, **options))


def test_rankings_are_the_same(both):
    documents = [*make_texts(30, seed=52), "cold water", "cold water", ""]
    for family in ("bert", "modernbert"):
        models = both(family)
        for options in (
            {},
            {"top_k": 5},
            {"top_k": 0},
            {"top_k": 100, "return_documents": True},
            {"activation_fn": torch.nn.Identity(), "return_documents": True},
            {"activation_fn": lambda logits: -logits},
            {"activation_fn": lambda logits: logits * 0},
            {"prompt": "who reads "},
        ):
            theirs, ours = models.rank(QUERY, documents, **options)
            assert [list(result) for result in ours] == [list(result) for result in theirs]
            assert [result["corpus_id"] for result in ours] == [result["corpus_id"] for result in theirs]
            assert [result.get("text") for result in ours] == [result.get("text") for result in theirs]
            scores = [[result["score"] for result in results] for results in (theirs, ours)]
            assert all(type(score) is float for score in scores[1])
            np.testing.assert_allclose(scores[1], scores[0], atol=1e-4, rtol=0)
        assert models.rank(QUERY, []) == ([], [])
        assert models.rank(QUERY, np.array(documents), top_k=3)[1] == models.ours.rank(QUERY, documents, top_k=3)


def test_options_of_the_constructor_mean_the_same(tiny_checkpoint):
    folder = tiny_checkpoint("bert")
    models = Both(
        folder,
        max_length=24,
        num_labels=1,
        activation_fn=torch.nn.Identity(),
        prompts={"question": "who reads "},
        default_prompt_name="question",
        model_kwargs={"dtype": torch.float32},
    )
    with models.ours:
        assert_same(*models.predict(PAIRS))
        assert_same(*models.predict(PAIRS, prompt=""))
        assert_same(*models.predict(PAIRS, prompt_name="question", activation_fn=torch.nn.Sigmoid()))
        assert models.ours.max_seq_length == models.theirs.max_seq_length == 24
        assert models.ours.num_labels == models.theirs.num_labels
        assert models.ours.device == str(models.theirs.device)
        for model in (models.ours, models.theirs):
            model.activation_fn = torch.nn.Tanh()
        assert_same(*models.predict(PAIRS))


@pytest.mark.parametrize(
    "keys",
    [
        {
            "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
            "sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid",
        },
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
    ],
)
def test_the_activation_is_the_one_that_the_checkpoint_names(keys, tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint("bert"), tmp_path / "named")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | keys))
    models = Both(folder)
    with models.ours:
        assert_same(*models.predict(PAIRS))
        assert_same(*models.predict(PAIRS, activation_fn=torch.nn.Sigmoid()))
        assert type(models.theirs.activation_fn).__name__.lower() == models.ours.activation_fn.__name__


def test_what_sentence_transformers_saved_scores_the_same(tiny_checkpoint, tmp_path):
    saved = tmp_path / "saved"
    sentence_transformers.CrossEncoder(
        str(tiny_checkpoint("roberta")), device="cpu", max_length=40, activation_fn=torch.nn.Identity()
    ).save_pretrained(str(saved))
    models = Both(saved)
    with models.ours:
        assert_same(*models.predict(PAIRS))
        assert models.ours.max_seq_length == models.theirs.max_seq_length == 40


@pytest.mark.parametrize("mistake", REFUSED_BY_BOTH)
def test_both_refuse(mistake, both):
    for model in (both("bert").theirs, both("bert").ours):
        with pytest.raises((ValueError, TypeError, AttributeError)):
            REFUSED_BY_BOTH[mistake](model)


@pytest.mark.parametrize("call", REFUSED_HERE)
def test_what_they_take_and_crossrank_refuses(call, both):
    REFUSED_HERE[call](both("bert").theirs)
    with pytest.raises((ValueError, TypeError)):
        REFUSED_HERE[call](both("bert").ours)


@pytest.mark.parametrize("method", ["__init__", "predict", "rank"])
def test_parameters_are_theirs_in_their_order_with_their_defaults_and_ours_follow(method):
    signatures = [
        inspect.signature(inspect.unwrap(getattr(cls, method)))
        for cls in (sentence_transformers.CrossEncoder, CrossEncoder)
    ]
    theirs, ours = (
        [(p.name, p.kind, p.default) for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        for signature in signatures
    )
    assert ours[: len(theirs)] == theirs
    assert [name for name, *_ in ours[len(theirs) :]] == (["precision", "threads"] if method == "__init__" else [])
