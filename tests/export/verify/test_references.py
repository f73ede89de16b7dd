"""What an export was compared with: named in manifest and report, for every family and for imports."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from export_cases import transformers_logits, write_pairs
from tiny_checkpoints import FAMILIES, MAX_LENGTH

from crossrank.engine.text.encoding import PairEncoder
from crossrank.errors import FidelityError, UnsupportedCheckpointError
from crossrank.export import export, import_onnx
from crossrank.export.verify.probes import make_probes
from crossrank.models.artifact import Artifact

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", queries=2)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_of_each_family_reports_what_its_reference_was(family, tiny_checkpoint, pairs, tmp_path):
    report = export(tiny_checkpoint(family), tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)

    version = importlib.metadata.version("transformers")
    assert report.verification.reference == (
        f"transformers {version} AutoModelForSequenceClassification, ids by AutoTokenizer"
    )
    assert report.verification.probes >= 15
    assert Artifact.open(report.artifact).manifest.verification == report.verification
    assert report.to_json()["verification"]["reference"] == report.verification.reference


def test_an_import_reports_the_file_as_its_reference(tiny_checkpoint, raw_graph, pairs, tmp_path):
    onnx.save(raw_graph("bert"), tmp_path / "model.onnx")
    report = import_onnx(tmp_path / "model.onnx", tiny_checkpoint("bert"), tmp_path / "out", verification_pairs=pairs)
    assert report.verification.reference.startswith("the ONNX file as it came, by onnxruntime ")
    assert Artifact.open(report.artifact).manifest.verification == report.verification


class _CrossEncoder:
    """Stands in for sentence-transformers' class, whose package the tests do not install."""

    shift = 0.0
    sigmoid = broken = False

    def __init__(self, folder: str, **_options: object) -> None:
        self.folder = folder

    def predict(self, pairs, **options: object):
        if self.broken:
            raise TypeError("forward() got an unexpected keyword argument 'return_dict'")
        logits = transformers_logits(Path(self.folder), [tuple(pair) for pair in pairs], max_length=MAX_LENGTH)
        given = logits[:, 0] + self.shift
        return given if "activation_fn" in options or not self.sigmoid else 1 / (1 + np.exp(-given))


@pytest.fixture
def saved_by_sentence_transformers(tiny_checkpoint, tmp_path, monkeypatch):
    """A checkpoint whose activation is the identity, and a stand-in for the library that saved it."""

    def save(**behaviour: object) -> Path:
        folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "copy"))
        config = json.loads((folder / "config.json").read_text())
        config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
        (folder / "config.json").write_text(json.dumps(config))
        module = ModuleType("sentence_transformers")
        module.CrossEncoder = type("CrossEncoder", (_CrossEncoder,), behaviour)
        monkeypatch.setitem(sys.modules, "sentence_transformers", module)
        version = importlib.metadata.version
        monkeypatch.setattr(
            importlib.metadata, "version", lambda name: "6.2.0" if name == "sentence-transformers" else version(name)
        )
        return folder

    return save


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_a_cross_encoder_of_sentence_transformers_is_measured_against_its_predict(
    shift, saved_by_sentence_transformers, pairs, tmp_path
):
    folder = saved_by_sentence_transformers(shift=shift)
    options = {"precisions": ["fp32"], "verification_pairs": pairs}
    if shift:
        with pytest.raises(FidelityError):
            export(folder, tmp_path / "out", **options)
        return
    report = export(folder, tmp_path / "out", **options)
    assert report.verification.reference.startswith("sentence-transformers 6.2.0 CrossEncoder.predict")


def test_a_model_that_fails_in_predict_is_refused_with_its_own_error(saved_by_sentence_transformers, pairs, tmp_path):
    folder = saved_by_sentence_transformers(broken=True)
    with pytest.raises(UnsupportedCheckpointError, match=r"itself fails in CrossEncoder\.predict .*return_dict"):
        export(folder, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
    assert not (tmp_path / "out").exists()


def test_another_activation_than_predict_applies_is_refused_unless_it_is_stated(
    saved_by_sentence_transformers, pairs, tmp_path
):
    folder = saved_by_sentence_transformers(sigmoid=True)
    options = {"precisions": ["fp32"], "verification_pairs": pairs}
    with pytest.raises(FidelityError, match=r"the activation identity was read .* applies another"):
        export(folder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    report = export(folder, tmp_path / "out", activation="identity", **options)
    assert Artifact.open(report.artifact).manifest.activation == "identity"


def test_a_tokenizer_read_otherwise_than_the_reference_reads_it_is_found_by_the_probes(
    tiny_checkpoint, pairs, tmp_path, monkeypatch
):
    from tokenizers import normalizers

    from crossrank.export.checkpoint import checkpoint as reading

    complete = reading.complete_tokenizer

    def misread(*args):
        tokenizer = complete(*args)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        return tokenizer

    monkeypatch.setattr(reading, "complete_tokenizer", misread)
    with pytest.raises(FidelityError, match=r"read the pair .* as different token ids"):
        export(tiny_checkpoint("bert"), tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
    assert not (tmp_path / "out").exists()


def test_probes_hold_both_cases_spaces_empty_texts_and_every_length_around_the_limits(tiny_checkpoint):
    encoder = PairEncoder.load(tiny_checkpoint("bert") / "tokenizer.json", max_length=MAX_LENGTH, pad_token_id=0)
    probes = make_probes(encoder, limits=[16]).scored

    lengths = set()
    for query, document in probes:
        whole = encoder.encode_whole_documents([document], None).full_lengths[0]
        lengths.add(int(encoder.template.special_tokens + len(encoder.encode_query(query).ids) + whole))
    assert len(lengths & set(range(13, 21))) >= 3
    assert len(lengths & set(range(MAX_LENGTH - 3, MAX_LENGTH + 5))) >= 3
    assert max(lengths) > MAX_LENGTH + 20
    texts = [text for pair in probes for text in pair]
    assert "" in texts
    assert any(text.startswith(" ") and text.strip() for text in texts)
    lowered = {text for text in texts if text == text.lower()}
    assert {text.lower() for text in texts if text != text.lower()} & lowered
    assert np.all([len(encoder.encode_query(query).ids) <= encoder.text_tokens // 2 for query, _ in probes])
