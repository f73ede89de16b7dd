"""Checkpoints whose model is Python code of their own: with consent exported like any other, else not a line runs."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from export_cases import write_pairs
from packaging.version import Version
from remote_checkpoint import write_remote_checkpoint
from tiny_checkpoints import MAX_LENGTH, make_pairs
from tiny_modules import write_modules

from crossrank import Reranker
from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import ExportError, MissingDependencyError, ModelNotFoundError, UnsupportedCheckpointError
from crossrank.export import export
from crossrank.export.checkpoint.checkpoint import read_checkpoint
from crossrank.models.artifact import Artifact, sha256_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning"),
    pytest.mark.skipif(sys.platform == "win32", reason="transformers' copies of the code stay open there"),
]

FILES = {"configuration_rotary_reranker.py", "modeling_rotary_reranker.py"}
LONG = [("the river", "the river carries cold water " * 40), ("", ""), ("every reader", "a")]


@pytest.fixture(autouse=True)
def copies_of_code(tmp_path, monkeypatch):
    """Where transformers copies code to before it runs it."""
    folder = tmp_path / "transformers_modules_of_this_test"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder))
    before = [name for name in sys.modules if name.startswith("transformers_modules")]
    for name in before:
        del sys.modules[name]
    yield folder
    sys.path[:] = [path for path in sys.path if path != str(folder)]


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path) -> Path:
    """A checkpoint of the code in `tests/data/remote_code`, with XLM-RoBERTa's tokenizer, saved by transformers."""
    return write_remote_checkpoint(tiny_checkpoint("xlm-roberta"), tmp_path / "rotary")


def logits_of(checkpoint: Path, pairs: list[tuple[str, str]]) -> np.ndarray:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    with torch.inference_mode():
        feeds = [
            tokenizer([query], [text], truncation="only_second", max_length=MAX_LENGTH, return_tensors="pt")
            for query, text in pairs
        ]
        return np.stack([model(**feed).logits[0, 0].numpy() for feed in feeds])


def test_with_consent_it_scores_as_its_own_code_does(checkpoint, tmp_path):
    report = export(
        checkpoint,
        tmp_path / "artifact",
        trust_remote_code=True,
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
        min_kendall_tau=0.5,
    )

    manifest = Artifact.open(report.artifact).manifest
    assert manifest.architecture.model_type == "rotary-reranker"
    assert set(manifest.source.code_sha256) == FILES, "what ran is recorded"
    assert "onnxscript" in manifest.library_versions, "the exporter that needs no list of families"
    pairs = [*make_pairs(24, seed=11), *LONG]
    expected = logits_of(checkpoint, pairs)
    assert np.std(expected) > 0.1, "logits that hardly differ would prove nothing"
    for precision, tolerance in (("fp32", 1e-4), ("int8", 0.3)):
        for options in ({"max_batch_tokens": 1}, {}):
            with ArtifactReranker(
                report.artifact, provider="cpu", precision=precision, activation="identity", **options
            ) as reranker:
                np.testing.assert_allclose(reranker.score_pairs(pairs), expected, atol=tolerance, rtol=0)


def test_without_consent_no_line_of_it_runs(checkpoint, copies_of_code, tmp_path):
    shutil.rmtree(copies_of_code)
    for path in checkpoint.glob("*.py"):
        path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    for attempt in (lambda: export(checkpoint, tmp_path / "artifact"), lambda: Reranker(checkpoint)):
        with pytest.raises(UnsupportedCheckpointError, match=r"trust_remote_code=True \(--trust-remote-code\)"):
            attempt()
    assert not (tmp_path / "ran").exists()
    assert not copies_of_code.exists()
    assert not (tmp_path / "artifact").exists()


def change(folder: Path, file: str = "config.json", **values: object) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


@pytest.mark.parametrize(
    ("auto_map", "message"),
    [
        ({"AutoModel": "modeling_rotary_reranker.Base"}, "none for AutoModelForSequenceClassification"),
        ({"AutoModelForSequenceClassification": "elsewhere.Model"}, r"elsewhere\.py is not there"),
        ({"AutoModelForSequenceClassification": ["a.B"]}, r"a class such as 'modeling\.Reranker'"),
    ],
)
def test_what_is_missing_is_named(auto_map, message, checkpoint):
    change(checkpoint, auto_map=auto_map)
    with pytest.raises(UnsupportedCheckpointError, match=message):
        read_checkpoint(checkpoint, trust_remote_code=True)


def test_a_model_of_modules_brings_code_for_its_transformer_alone(checkpoint, tiny_checkpoint, tmp_path):
    modeling = checkpoint / "modeling_rotary_reranker.py"
    code = modeling.read_text(encoding="utf-8")
    for former, now in (
        ("RotaryRerankerForSequenceClassification", "RotaryModel"),
        ("SequenceClassifierOutput(logits=self.classifier(x[:, 0]))", "BaseModelOutput(last_hidden_state=x)"),
        ("SequenceClassifierOutput", "BaseModelOutput"),
        # sentence-transformers asks for it whether a model takes it or not.
        (
            "def forward(self, input_ids, attention_mask):",
            "def forward(self, input_ids, attention_mask, return_dict=None):",
        ),
    ):
        code = code.replace(former, now)
    modeling.write_text(code, encoding="utf-8")
    classes = {
        "AutoConfig": "configuration_rotary_reranker.RotaryRerankerConfig",
        "AutoModel": "modeling_rotary_reranker.RotaryModel",
    }
    change(checkpoint, auto_map=classes, architectures=["RotaryModel"])
    modules = write_modules(tiny_checkpoint("xlm-roberta"), tmp_path / "modules", kinds=("Pooling", "Dense"))
    for path in modules.iterdir():
        if path.is_dir():
            shutil.copytree(path, checkpoint / path.name)
        elif not (checkpoint / path.name).exists():
            shutil.copy(path, checkpoint)

    report = export(
        checkpoint,
        tmp_path / "artifact",
        precisions=["fp32"],
        verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
        trust_remote_code=True,
    )
    assert set(report.source.code_sha256) == FILES
    change(checkpoint, auto_map={"AutoConfig": classes["AutoConfig"]})
    with pytest.raises(UnsupportedCheckpointError, match="none for AutoModel,"):
        read_checkpoint(checkpoint, trust_remote_code=True)


def test_code_of_another_repository_that_cannot_be_had_is_named(checkpoint, tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    change(checkpoint, auto_map={"AutoModelForSequenceClassification": "somebody/new-impl--modeling.Reranker"})
    with pytest.raises(ModelNotFoundError, match="hf download somebody/new-impl"):
        read_checkpoint(checkpoint, trust_remote_code=True, local_files_only=True)


@pytest.fixture
def own_tokenizer(tiny_checkpoint, tmp_path) -> Path:
    """A BERT whose tokenizer alone is a class of the checkpoint's own."""
    folder = shutil.copytree(tiny_checkpoint("bert"), tmp_path / "bert")
    (folder / "words.py").write_text("LOWER = True\n", encoding="utf-8")
    (folder / "tokens.py").write_text(
        "from transformers import BertTokenizerFast\n\nfrom .words import LOWER\n\n\n"
        "class Tokens(BertTokenizerFast):\n    pass\n",
        encoding="utf-8",
    )
    return folder


@pytest.mark.parametrize("auto_map", [{"AutoTokenizer": [None, "tokens.Tokens"]}, [None, "tokens.Tokens"]])
def test_code_of_a_tokenizer_alone_is_recorded(auto_map, own_tokenizer):
    change(own_tokenizer, "tokenizer_config.json", auto_map=auto_map)
    with pytest.raises(UnsupportedCheckpointError, match=r"\(AutoTokenizer\); nothing of it runs unless"):
        read_checkpoint(own_tokenizer)
    found = read_checkpoint(own_tokenizer, trust_remote_code=True).source.code_sha256
    assert found == {name: sha256_of(own_tokenizer / name) for name in ("tokens.py", "words.py")}


def test_code_of_model_and_tokenizer_is_recorded_together(checkpoint):
    (checkpoint / "tokens.py").write_text(
        "from transformers import XLMRobertaTokenizerFast\n\n\nclass Tokens(XLMRobertaTokenizerFast):\n    pass\n"
    )
    change(checkpoint, "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "tokens.Tokens"]})
    assert set(read_checkpoint(checkpoint, trust_remote_code=True).source.code_sha256) == FILES | {"tokens.py"}


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("elsewhere.Tokens", UnsupportedCheckpointError, r"tokenizer_config\.json\), and elsewhere\.py is not there"),
        ("tokens", UnsupportedCheckpointError, r"tokenizer_config\.json of bert has .* for AutoTokenizer"),
        ("somebody/new-tokens--tokens.Tokens", ModelNotFoundError, "hf download somebody/new-tokens"),
    ],
)
def test_what_is_missing_of_a_tokenizers_code_is_named(reference, error, message, own_tokenizer, tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    change(own_tokenizer, "tokenizer_config.json", auto_map={"AutoTokenizer": [None, reference]})
    with pytest.raises(error, match=message):
        read_checkpoint(own_tokenizer, trust_remote_code=True, local_files_only=True)


def change_code(checkpoint: Path, old: str, new: str) -> None:
    """Change the model's code, and the configuration's too: transformers 5 keeps a class of models for each of that."""
    path = checkpoint / "modeling_rotary_reranker.py"
    code = path.read_text(encoding="utf-8")
    assert old in code
    path.write_text(code.replace(old, new), encoding="utf-8")
    with (checkpoint / "configuration_rotary_reranker.py").open("a", encoding="utf-8") as file:
        file.write(f"\n# for {new!r}\n")


def test_code_of_another_checkpoint_that_was_loaded_before_is_never_taken_for_its_own(checkpoint, tmp_path):
    def export_to(name: str) -> np.ndarray:
        report = export(
            checkpoint,
            tmp_path / name,
            trust_remote_code=True,
            precisions=["fp32"],
            verification_pairs=write_pairs(tmp_path / f"{name}.jsonl"),
        )
        with ArtifactReranker(report.artifact, provider="cpu", activation="identity") as reranker:
            return np.asarray(reranker.score_pairs(make_pairs(8, seed=2)))

    before = export_to("before")
    path = checkpoint / "modeling_rotary_reranker.py"
    code = path.read_text(encoding="utf-8")
    path.write_text(
        code.replace("logits=self.classifier(x[:, 0])", "logits=3 * self.classifier(x[:, 0])"), encoding="utf-8"
    )

    if Version(importlib.metadata.version("transformers")) >= Version("5"):
        with pytest.raises(UnsupportedCheckpointError, match="other code that this process loaded before"):
            export_to("after")
        assert not (tmp_path / "after").exists()
    else:
        np.testing.assert_allclose(export_to("after"), 3 * before, atol=1e-4, rtol=0)


def test_a_package_that_its_code_imports_is_named(checkpoint, tmp_path):
    change_code(checkpoint, "from torch import nn\n", "from torch import nn\nimport a_package_nobody_has\n")
    with pytest.raises(UnsupportedCheckpointError, match="a_package_nobody_has"):
        export(checkpoint, tmp_path / "artifact", trust_remote_code=True)
    assert not (tmp_path / "artifact").exists()


def test_code_that_branches_on_its_data_is_refused_with_the_exporters_reason(checkpoint, tmp_path):
    change_code(checkpoint, "        for layer", "        if x.sum() > 0:\n            x = -x\n        for layer")
    with pytest.raises(ExportError, match=r"torch\.onnx failed to export rotary \(rotary-reranker\)"):
        export(
            checkpoint,
            tmp_path / "artifact",
            trust_remote_code=True,
            verification_pairs=write_pairs(tmp_path / "pairs.jsonl"),
        )
    assert not (tmp_path / "artifact").exists()


def test_the_exporter_it_needs_is_named(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    pytest.importorskip("optimum")
    with pytest.raises(MissingDependencyError, match="onnxscript"):
        export(checkpoint, tmp_path / "artifact", trust_remote_code=True)
