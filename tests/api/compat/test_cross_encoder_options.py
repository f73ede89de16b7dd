"""Options and attributes of `crossrank.compat.CrossEncoder`: what they mean, may be assigned, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from cross_encoder_calls import MANY, PAIRS
from tiny_artifacts import with_instruction
from tiny_checkpoints import MAX_LENGTH

from crossrank.compat import CrossEncoder, identity, sigmoid
from crossrank.errors import InvalidInputError, ModelNotFoundError, PrecisionError, ProviderError

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"modules": []}, "torch modules"),
        ({"cache_folder": "/tmp"}, "HF_HOME"),
        ({"token": "hf_x"}, "HF_TOKEN"),
        ({"model_kwargs": {"attn_implementation": "eager"}}, "precision"),
        ({"model_kwargs": {"dtype": "float16"}}, "precision"),
        ({"model_kwargs": {"dtype": "float32"}, "precision": "int8"}, "precision"),
        ({"processor_kwargs": {"use_fast": False}}, "max_length"),
        ({"config_kwargs": {"num_labels": 1}}, "as it is"),
        ({"model_card_data": object()}, "nothing is trained"),
        ({"keep_in_fp32_modules": []}, "precision"),
        ({"backend": "openvino"}, "onnxruntime"),
        ({"num_labels": 3}, "another head"),
        ({"max_length": 1000}, "64 tokens at most"),
        ({"activation_fn": "sigmoid"}, "a function"),
        ({"trust_remote_code": True}, "activation"),
        ({"device": "mps"}, "no other"),
        ({"device": "cuda:x"}, "no other"),
        ({"prompts": ["a"]}, "a mapping"),
        ({"default_prompt_name": "a"}, "no prompt 'a'"),
        ({"revision": "main"}, "only a hub repository"),
        ({"precision": "fp8"}, "fp8"),
    ],
)
def test_options_that_would_change_something_and_cannot_are_refused(option, says, folder):
    with pytest.raises(InvalidInputError, match=says):
        CrossEncoder(folder, **option)


def test_model_options_that_are_no_mapping_are_refused(folder):
    with pytest.raises(InvalidInputError, match=r"model_kwargs=.*mapping"):
        CrossEncoder(folder, model_kwargs=["dtype"])


def test_options_that_say_what_is_so_are_taken(folder, model):
    with CrossEncoder(
        str(folder),
        device=torch.device("cpu"),
        num_labels=1,
        max_length=MAX_LENGTH,
        local_files_only=True,
        trust_remote_code=True,
        activation_fn=torch.nn.Sigmoid(),
        backend="onnx",
        model_kwargs={"torch_dtype": torch.float32},
        processor_kwargs={},
        threads=1,
    ) as other:
        np.testing.assert_allclose(other.predict(MANY, device="cpu"), model.predict(MANY), atol=1e-5)
    for option in ({"device": "cuda"}, {"device": ["cpu"]}, {"pool": {}}, {"chunk_size": 3}):
        with pytest.raises(InvalidInputError, match=r"constructor|leave them out"):
            model.predict(MANY, **option)
        with pytest.raises(InvalidInputError, match=r"constructor|leave them out"):
            model.rank("a", ["b"], **option)


def test_a_name_without_an_owner_is_one_of_cross_encoder(cache):
    with pytest.raises(ModelNotFoundError, match="'cross-encoder/no-such-model'"):
        CrossEncoder("no-such-model", device="cpu")
    with pytest.raises(InvalidInputError, match="HF_HUB_OFFLINE"):
        CrossEncoder("somebody/no-such-model", device="cpu", local_files_only=True)
    with pytest.raises(InvalidInputError, match="hub id"):
        CrossEncoder()


def test_fp32_is_the_default_and_int8_an_own_option(folder, model):
    with CrossEncoder(folder, device="cpu", precision="int8") as quantized:
        assert (quantized.precision, model.precision) == ("int8", "fp32")
        difference = np.abs(quantized.predict(MANY) - model.predict(MANY))
        assert 1e-4 < difference.max() < 0.3
    with pytest.raises(PrecisionError, match="it has int8 for cpu"):
        CrossEncoder("default", device="cpu")
    with CrossEncoder("default", device="cpu", precision="int8") as default:
        query = "how do vaccines work"
        results = default.rank(query, ["Stocks fell.", "They train immune cells."], top_k=1)
        assert results[0]["corpus_id"] == 1


def test_cuda_is_asked_for_and_not_replaced(folder):
    with pytest.raises(ProviderError):
        CrossEncoder(folder, device="cuda:7")


def test_prompts_go_before_the_query(folder, model):
    expected = model.predict([(f"find: {query}", document) for query, document in MANY])
    np.testing.assert_array_equal(model.predict(MANY, prompt="find: "), expected)
    with CrossEncoder(folder, device="cpu", prompts={"find": "find: "}, default_prompt_name="find") as prompted:
        np.testing.assert_allclose(prompted.predict(MANY), expected, atol=1e-5)
        np.testing.assert_allclose(prompted.predict(MANY, prompt=""), model.predict(MANY), atol=1e-5)
        assert prompted.rank("who", ["a"]) == prompted.rank("who", ["a"], prompt_name="find")
        with pytest.raises(InvalidInputError, match="one of them"):
            prompted.predict(MANY, prompt="a", prompt_name="find")


def test_prompts_that_are_assigned_apply_and_are_checked(folder):
    with CrossEncoder(folder, device="cpu") as model:
        assert (model.prompts, model.default_prompt_name) == ({}, None)
        plain = model.predict(PAIRS)
        prompted = model.predict(PAIRS, prompt="find the river: ")
        assert np.abs(plain - prompted).max() > 1e-3
        model.prompts = {"a": "find the river: "}
        model.default_prompt_name = "a"
        np.testing.assert_array_equal(model.predict(PAIRS), prompted)
        for name, wrong in (("prompts", ["a"]), ("prompts", {"b": "x"}), ("default_prompt_name", "b")):
            with pytest.raises(InvalidInputError):
                setattr(model, name, wrong)
        assert (model.prompts, model.default_prompt_name) == ({"a": "find the river: "}, "a")


def test_the_activation_can_be_set_afterwards(folder):
    with CrossEncoder(folder, device="cpu") as model:
        assert model.activation_fn is sigmoid
        logits = model.predict(MANY, activation_fn=identity)
        np.testing.assert_allclose(model.activation_fn(logits), model.predict(MANY), atol=1e-6)
        np.testing.assert_allclose(model.activation_fn(torch.tensor(logits)), model.predict(MANY), atol=1e-6)
        model.activation_fn = identity
        np.testing.assert_array_equal(model.predict(MANY), logits)
        with pytest.raises(InvalidInputError, match="a function"):
            model.activation_fn = "sigmoid"


def test_attributes_are_true_and_those_of_a_torch_module_are_not_there(folder):
    with CrossEncoder(folder, device="cpu", max_length=32) as model:
        assert model.max_seq_length == model.max_length == 32
        assert (model.num_labels, model.device, model.precision) == (1, "cpu", "fp32")
        with pytest.raises(AttributeError):
            model.max_seq_length = 16
        for name in ("tokenizer", "model", "config", "fit", "save_pretrained", "to", "start_multi_process_pool"):
            assert not hasattr(model, name)
        with pytest.raises(AttributeError, match="no torch model here"):
            _ = model.tokenizer
        with pytest.raises(AttributeError, match=r"no attribute 'no_such_thing'$"):
            _ = model.no_such_thing


@pytest.mark.parametrize("name", ["default_activation_function", "tokenizer", "config", "max_length"])
def test_what_would_change_nothing_cannot_be_assigned(model, name):
    with pytest.raises(AttributeError, match=name):
        setattr(model, name, None)


def test_a_model_with_a_template_is_refused_with_the_class_that_takes_it(folder, tmp_path):
    with pytest.raises(InvalidInputError, match=r"template.*crossrank\.Reranker") as refused:
        CrossEncoder(with_instruction(folder, tmp_path / "templated"))
    assert "truncation" not in str(refused.value)
