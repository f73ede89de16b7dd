"""The public reranker: a model by name, options checked first, the same model again from a pickle."""

import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

import crossrank
from crossrank import InvalidInputError, ModelNotFoundError, Reranker
from crossrank.models import embedded

EMBEDDED = embedded.Path(embedded.__file__).parent / "default" / "artifact"
needs_embedded = pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded model has not been exported")


def test_it_scores_by_the_path_of_an_artifact(tiny_artifact):
    with Reranker(str(tiny_artifact), provider="cpu", precision="fp32", threads=2) as reranker:
        ranking = reranker.rank("who reads", ["the river", {"text": "every reader"}])
        info = reranker.info()
    assert sorted(item.index for item in ranking) == [0, 1]
    assert (info.model, info.artifact, info.threads) == ("tiny-bert", str(tiny_artifact), 2)


@pytest.mark.parametrize(
    "option",
    [{"threads": 0}, {"provider": "tpu"}, {"precision": "int4"}, {"max_batch_tokens": -1}, {"activation": "softmax"}],
)
def test_options_are_checked_before_any_export(tmp_path, cache, exports, option):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidInputError, match=next(iter(option))):
        Reranker(tmp_path, **option)
    assert exports == []


def test_a_checkpoint_is_exported_once_and_scored(tmp_path, cache, exports, tiny_artifact):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    scores = []
    for _ in range(2):
        with Reranker(checkpoint, provider="cpu") as reranker:
            scores.append(reranker.score("who", ["the river"]).tolist())
    with Reranker(tiny_artifact, provider="cpu") as reranker:
        assert scores == [reranker.score("who", ["the river"]).tolist()] * 2
    assert len(exports) == 1


@pytest.mark.slow
def test_a_real_checkpoint_is_exported_at_first_use_and_scores_as_torch_does(tiny_checkpoint, cache, monkeypatch):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    checkpoint = tiny_checkpoint("bert")
    documents = ["the river", "", "cold water in winter"]
    with Reranker(checkpoint, provider="cpu", precision="fp32", activation="identity") as reranker:
        scores = reranker.score("who reads", documents)
    monkeypatch.setattr("crossrank.export.pipeline.export", lambda *_, **__: pytest.fail("exported again"))
    with Reranker(checkpoint, provider="cpu", precision="fp32", activation="identity") as reranker:
        assert reranker.score("who reads", documents).tolist() == scores.tolist()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        logits = [
            float(model(**tokenizer(["who reads"], [document], return_tensors="pt")).logits) for document in documents
        ]
    np.testing.assert_allclose(scores, logits, atol=1e-4)


def test_a_pickle_of_a_relative_folder_is_read_elsewhere(tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_artifact.parent)
    with Reranker(tiny_artifact.name, provider="cpu", max_length=32, activation="sigmoid") as reranker:
        data, expected, info = pickle.dumps(reranker), reranker.score("who", ["the river"]), reranker.info()
    monkeypatch.chdir(tmp_path)
    with pickle.loads(data) as again:
        assert again.info() == info
        assert again.score("who", ["the river"]).tobytes() == expected.tobytes()
        assert pickle.dumps(again) == data


def test_a_pickle_of_a_checkpoint_finds_its_export_again(tmp_path, cache, exports):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    with Reranker(checkpoint, provider="cpu") as reranker:
        data = pickle.dumps(reranker)
    pickle.loads(data).close()
    assert len(exports) == 1
    shutil.rmtree(cache)
    pickle.loads(data).close()
    assert len(exports) == 2


def test_a_pickle_of_a_hub_model_keeps_its_revision(cache, exports, hub):
    asked = hub({"v1": "a" * 40})
    with Reranker("owner/name", revision="v1", provider="cpu") as reranker:
        data = pickle.dumps(reranker)
    pickle.loads(data).close()
    shutil.rmtree(cache)
    pickle.loads(data).close()
    assert asked == [("owner/name", "v1")] * 2


def test_a_pickle_of_the_embedded_model_means_the_embedded_model_where_it_is_read(tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr("crossrank.resolve.embedded_artifact", lambda _: tiny_artifact)
    shutil.copytree(tiny_artifact, tmp_path / "default")
    monkeypatch.chdir(tmp_path)
    with Reranker("default", provider="cpu") as reranker:
        data = pickle.dumps(reranker)
        assert reranker.info().artifact == str(tiny_artifact)
    elsewhere = shutil.copytree(tiny_artifact, tmp_path / "another installation")
    monkeypatch.setattr("crossrank.resolve.embedded_artifact", lambda _: elsewhere)
    with pickle.loads(data) as again:
        assert again.info().artifact == str(elsewhere)


def test_a_missing_model_is_one_clear_error(tmp_path, cache):
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        Reranker("no-such-model", provider="cpu")
    with pytest.raises(InvalidInputError, match="model is None"):
        Reranker(None)


@needs_embedded
@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_the_embedded_model_ranks_what_answers_first(precision):
    documents = [
        "Stock prices fell sharply after the announcement.",
        "Vaccines train the immune system to recognise a pathogen before it is met.",
        "A recipe for bread needs flour, water, salt and yeast.",
    ]
    with Reranker(provider="cpu", precision=precision) as reranker:
        ranking = reranker.rank("how do vaccines work", documents)
        assert reranker.info().precision == "int8"
    assert ranking[0].index == 1
    assert ranking[0].score > ranking[1].score + 1


@needs_embedded
def test_the_embedded_model_pickles_and_needs_no_network(tmp_path):
    with Reranker(provider="cpu") as reranker:
        data = tmp_path / "pickle"
        data.write_bytes(pickle.dumps(reranker))
        expected = reranker.score("who", ["the river"]).tobytes().hex()
    code = (
        "import pickle, sys\n"
        "reranker = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(reranker.score('who', ['the river']).tobytes().hex())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, data], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@needs_embedded
def test_the_example_in_the_docstring_works():
    import doctest

    import crossrank.reranker

    results = doctest.testmod(crossrank.reranker)
    assert results.attempted > 0
    assert results.failed == 0


def test_the_class_is_public():
    assert crossrank.Reranker is Reranker
