"""What a graph is given for segment ids is what transformers gives the model, and the manifest says which."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_cases import transformers_logits, write_pairs
from packaging.version import Version
from tiny_checkpoints import make_pairs

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import FidelityError
from crossrank.export import export, import_onnx

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

ASKED = make_pairs(12, seed=3)
LENGTH = 60
CLS, SEP = ("[CLS]", 2), ("[SEP]", 3)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", queries=2)


@pytest.fixture
def without_ids(tiny_checkpoint, tmp_path) -> Path:
    """A BERT of two segments whose tokenizer hands no segment ids out."""
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "bert"))
    change(folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    return folder


@pytest.fixture
def with_ids(tiny_checkpoint, tmp_path) -> Path:
    """A RoBERTa of two segments with BERT's tokenizer, which numbers them."""
    made = tiny_checkpoint("roberta", type_vocab_size=2, pad_token_id=0)
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "roberta"))
    for name in ("config.json", "model.safetensors"):
        shutil.copy(made / name, folder / name)
    return folder


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def assert_served(artifact: Path, folder: Path, *, uses: bool) -> None:
    expected = transformers_logits(folder, ASKED, max_length=LENGTH)[:, 0]
    with ArtifactReranker(artifact, provider="cpu", precision="fp32", activation="identity") as reranker:
        np.testing.assert_allclose(reranker.score_pairs(ASKED), expected, atol=1e-4, rtol=0)
    manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    assert "token_type_ids" in manifest["graphs"][0]["inputs"]
    assert manifest["uses_segment_ids"] is uses


@pytest.mark.parametrize(("fixture", "uses"), [("without_ids", False), ("with_ids", True)])
def test_an_export_is_given_what_the_tokenizer_hands_out(fixture, uses, request, pairs, tmp_path):
    folder = request.getfixturevalue(fixture)
    export(
        folder,
        tmp_path / "out",
        precisions=["fp32"],
        verification_pairs=pairs,
        max_length=LENGTH,
        exporter="torch",
    )
    assert_served(tmp_path / "out", folder, uses=uses)


@pytest.mark.parametrize("way", ["export", "import"])
def test_a_tokenizer_of_transformers_5_that_is_of_no_class_hands_none_out(
    way, without_ids, raw_graph, tiny_checkpoint, pairs, tmp_path
):
    """Its default inputs are token ids and mask; those of version 4's generic class had segment ids besides."""
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "saved"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({"backend": "tokenizers", "tokenizer_class": "TokenizersBackend", "pad_token": "[PAD]"}))
    options = {"verification_pairs": pairs, "max_length": LENGTH}
    if way == "export":
        export(folder, tmp_path / "out", precisions=["fp32"], exporter="torch", **options)
    else:
        onnx.save(raw_graph("bert"), tmp_path / "model.onnx")
        import_onnx(tmp_path / "model.onnx", folder, tmp_path / "out", **options)
    assert_served(tmp_path / "out", without_ids, uses=False)


def piece(name: str, segment: int) -> dict[str, object]:
    kind = "Sequence" if len(name) == 1 else "SpecialToken"
    return {kind: {"id": name, "type_id": segment}}


PAIR = [("[CLS]", 0), ("A", 0), ("[SEP]", 0), ("B", 1), ("[SEP]", 1)]
BERT = {"type": "BertProcessing", "sep": SEP, "cls": CLS}
POST_PROCESSORS = {
    "template": {
        "type": "TemplateProcessing",
        "single": [piece(*item) for item in PAIR[:3]],
        "pair": [piece(*item) for item in PAIR],
        "special_tokens": {name: {"id": name, "ids": [index], "tokens": [name]} for name, index in (CLS, SEP)},
    },
    "bert": BERT,
    "sequence": {"type": "Sequence", "processors": [BERT]},
    "none": None,
}


@pytest.mark.parametrize("kind", POST_PROCESSORS)
def test_an_import_gives_zeros_whatever_way_the_tokenizer_numbers_segments(
    kind, without_ids, raw_graph, pairs, tmp_path
):
    change(without_ids / "tokenizer.json", post_processor=POST_PROCESSORS[kind])
    onnx.save(raw_graph("bert"), tmp_path / "model.onnx")
    options = {"verification_pairs": pairs, "max_length": LENGTH}
    if kind == "none" and Version(importlib.metadata.version("transformers")) >= Version("5"):
        # From 5 on transformers puts BERT's tokens around a pair although the file has none.
        with pytest.raises(FidelityError, match="as different token ids"):
            import_onnx(tmp_path / "model.onnx", without_ids, tmp_path / "out", **options)
        return
    import_onnx(tmp_path / "model.onnx", without_ids, tmp_path / "out", **options)
    assert_served(tmp_path / "out", without_ids, uses=False)


def test_an_import_is_given_what_the_tokenizer_hands_out(with_ids, raw_graph, pairs, tmp_path):
    graph = raw_graph("roberta", exporter="torch", type_vocab_size=2, pad_token_id=0)
    onnx.save(graph, tmp_path / "model.onnx")
    import_onnx(tmp_path / "model.onnx", with_ids, tmp_path / "out", verification_pairs=pairs, max_length=LENGTH)
    assert_served(tmp_path / "out", with_ids, uses=True)
