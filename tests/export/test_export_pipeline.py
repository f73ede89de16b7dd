"""The export as a whole: what it writes, what it tells, and that it writes nothing when it fails."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from export_cases import folder_bytes, transformers_logits, write_pairs
from tiny_checkpoints import MAX_LENGTH, make_pairs

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import (
    ArtifactError,
    ExportError,
    FidelityError,
    InvalidInputError,
    MissingDependencyError,
    UnsupportedCheckpointError,
)
from crossrank.export import ExportEvent, export
from crossrank.export.dependencies import require_export
from crossrank.models.artifact import Artifact

pytestmark = pytest.mark.filterwarnings("ignore::crossrank.errors.TruncationWarning")

LOOSE = 0.5
"""A rank bound for random weights, which rank at random, so that eight bits move more than in a trained model."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


@pytest.fixture
def bert(tiny_checkpoint):
    return tiny_checkpoint("bert")


@pytest.fixture
def copy(bert, tmp_path):
    return Path(shutil.copytree(bert, tmp_path / "copy"))


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_artifact_has_what_was_asked_for_and_no_more(bert, pairs, tmp_path):
    report = export(bert, tmp_path / "out", verification_pairs=pairs, min_kendall_tau=LOOSE, name="tiny")

    assert left_in(tmp_path) == ["out"]
    assert left_in(tmp_path / "out") == ["fp16.onnx", "fp32.onnx", "int8.onnx", "manifest.json", "tokenizer.json"]
    artifact = Artifact.open(tmp_path / "out")
    artifact.verify()
    manifest = artifact.manifest
    assert manifest.name == "tiny"
    assert manifest.source.id == bert.name
    assert {graph.precision: (graph.providers, graph.batching) for graph in manifest.graphs} == {
        "fp32": (("cpu", "cuda"), "padded"),
        "int8": (("cpu",), "packed"),
        "fp16": (("cuda",), "padded"),
    }
    exporter = {"optimum": "optimum-onnx", "torch": "onnxscript"}[require_export(None)]
    assert set(manifest.library_versions) == {
        "onnx",
        "onnxruntime",
        exporter,
        "tokenizers",
        "torch",
        "transformers",
    }
    assert all(graph.passes for graph in manifest.graphs)
    sizes = {graph.precision: graph.size for graph in report.graphs}
    assert sizes == {name: (tmp_path / "out" / f"{name}.onnx").stat().st_size for name in ("fp32", "int8", "fp16")}
    assert sizes["int8"] < 0.6 * sizes["fp32"]
    assert all(graph.milliseconds_per_pair > 0 for graph in report.graphs)
    assert report.artifact == tmp_path / "out"
    assert json.loads(json.dumps(report.to_json()))["graphs"][0]["fidelity"]["pairs"] == 32


def test_reference_pairs_are_recorded_with_each_graphs_own_logits(bert, pairs, tmp_path):
    export(bert, tmp_path / "out", precisions=["fp32", "int8"], verification_pairs=pairs, min_kendall_tau=LOOSE)

    manifest = Artifact.open(tmp_path / "out").manifest
    chosen = [(pair.query, pair.document) for pair in manifest.reference_pairs]
    assert len(set(chosen)) == 8
    lengths = [len(query) + len(document) for query, document in chosen]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1] / 2
    for graph in manifest.graphs:
        with ArtifactReranker(
            tmp_path / "out", provider="cpu", precision=graph.precision, activation="identity", max_batch_tokens=1
        ) as reranker:
            np.testing.assert_allclose(reranker.score_pairs(chosen), graph.reference_logits, rtol=1e-5, atol=1e-6)
    assert manifest.graphs[0].reference_logits != manifest.graphs[1].reference_logits


def test_two_exports_are_equal_byte_for_byte(bert, pairs, tmp_path):
    for name in ("first", "second"):
        export(bert, tmp_path / name, verification_pairs=pairs, min_kendall_tau=LOOSE)

    first, second = folder_bytes(tmp_path / "first"), folder_bytes(tmp_path / "second")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_nothing_in_an_artifact_tells_of_the_machine(bert, pairs, tmp_path):
    export(bert, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
    for name, content in folder_bytes(tmp_path / "out").items():
        for trace in (str(tmp_path), "site-packages", "/crossrank-", "/tmp/"):
            assert trace.encode() not in content, f"{trace} in {name}"


def test_a_precision_alone_is_measured_against_fp32_all_the_same(bert, pairs, tmp_path):
    report = export(bert, tmp_path / "out", precisions=["int8"], verification_pairs=pairs, min_kendall_tau=LOOSE)

    assert left_in(tmp_path / "out") == ["int8.onnx", "manifest.json", "tokenizer.json"]
    assert [graph.precision for graph in report.graphs] == ["int8"]
    assert report.graphs[0].fidelity.reference == "fp32"
    assert report.graphs[0].fidelity.max_abs_logit_difference > 0


def test_the_tokenizer_is_without_the_truncation_training_left(copy, pairs, tmp_path):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["truncation"] = {
        "direction": "Right",
        "max_length": 12,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    tokenizer["padding"] = {
        "strategy": {"Fixed": 12},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))

    export(copy, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)

    written = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert written["truncation"] is None
    assert written["padding"] is None
    long = [("the river", " ".join(["cold water"] * 20))]
    expected = transformers_logits(copy, long, max_length=MAX_LENGTH)[0, 0]
    with ArtifactReranker(tmp_path / "out", provider="cpu", precision="fp32", activation="identity") as reranker:
        with pytest.warns(UserWarning, match="longer"):
            scores = reranker.score_pairs(long)
        assert scores[0] == pytest.approx(expected, abs=1e-4)


def test_what_transformers_adds_to_a_tokenizer_is_in_the_artifacts(copy, pairs, tmp_path):
    """The settings beside tokenizer.json may differ from it, and the model is fed by both."""
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(settings | {"do_lower_case": False}))
    asked = [("The River", "Python 3 ranks Bread in Winter. Every Reader")]

    export(copy, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)

    expected = transformers_logits(copy, asked, max_length=MAX_LENGTH)[0, 0]
    with ArtifactReranker(tmp_path / "out", provider="cpu", precision="fp32", activation="identity") as reranker:
        assert reranker.score_pairs(asked)[0] == pytest.approx(expected, abs=1e-4)


def test_half_precision_weights_are_the_reference_in_float32(bert, pairs, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    float16 = tmp_path / "float16"
    AutoModelForSequenceClassification.from_pretrained(bert).half().save_pretrained(float16)
    AutoTokenizer.from_pretrained(bert).save_pretrained(float16)
    config = json.loads((float16 / "config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == "float16"

    report = export(float16, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)

    assert report.graphs[0].fidelity.max_abs_logit_difference <= 1e-4


def test_large_weights_go_into_a_file_of_their_own(bert, pairs, tmp_path):
    for name, options in (("inside", {}), ("beside", {"external_data_from": 10_000})):
        export(bert, tmp_path / name, verification_pairs=pairs, min_kendall_tau=LOOSE, **options)

    artifact = Artifact.open(tmp_path / "beside")
    artifact.verify()
    for graph in artifact.manifest.graphs:
        assert graph.external_data == (f"{graph.precision}.onnx.data",)
        assert (tmp_path / "beside" / graph.file).stat().st_size < (tmp_path / "inside" / graph.file).stat().st_size
    inside = Artifact.open(tmp_path / "inside").manifest
    for alone, together in zip(artifact.manifest.graphs, inside.graphs, strict=True):
        assert alone.reference_logits == together.reference_logits


def test_progress_tells_each_step_with_its_time(bert, pairs, tmp_path):
    events: list[ExportEvent] = []
    report = export(bert, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs, progress=events.append)

    started = [event.step for event in events if event.state == "started"]
    finished = [event for event in events if event.state == "finished"]
    assert started == [event.step for event in finished] == [step.name for step in report.steps]
    assert {"read the checkpoint", "export to ONNX", "make fp32", "verify fp32 against pytorch"} <= set(started)
    assert all(event.seconds >= 0 for event in finished)
    written = next(event for event in finished if event.step == "write fp32.onnx")
    assert written.size == (tmp_path / "out" / "fp32.onnx").stat().st_size
    last = [event for event in events if event.step.startswith("verify") and event.state == "advanced"][-1]
    assert (last.done, last.total) == (32, 32)


def test_an_export_says_nothing_of_its_own(bert, pairs, tmp_path):
    code = (
        "import logging; before = logging.getLogger().handlers[:]\n"
        "from crossrank.export import export\n"
        f"export({str(bert)!r}, {str(tmp_path / 'out')!r}, precisions=['fp32'], "
        f"verification_pairs=__import__('pathlib').Path({str(pairs)!r}))\n"
        "assert logging.getLogger().handlers == before\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_import_of_the_package_loads_nothing_heavy():
    code = (
        "import sys, crossrank.export; crossrank.export.ExportReport; crossrank.export.__all__; "
        "print(sorted({'torch', 'transformers', 'optimum', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_such_name_in_the_package():
    import crossrank.export

    with pytest.raises(AttributeError, match="exprt"):
        crossrank.export.exprt  # noqa: B018


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_a_model_of_one_segment_is_served_though_its_tokenizer_numbers_two(family, tiny_checkpoint, pairs, tmp_path):
    checkpoint = tiny_checkpoint(family, type_vocab_size=1)
    export(checkpoint, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
    manifest = Artifact.open(tmp_path / "out").manifest
    assert not manifest.uses_segment_ids
    assert "token_type_ids" not in manifest.graphs[0].inputs


class TestFailures:
    """Nothing visible is left, and what was there stays as it was."""

    def test_below_the_bound_nothing_is_written_and_the_figures_are_told(self, tiny_checkpoint, tmp_path):
        many = write_pairs(tmp_path / "many.jsonl", queries=6, documents=20)
        with pytest.raises(FidelityError) as caught:
            export(tiny_checkpoint("electra"), tmp_path / "out", verification_pairs=many, min_kendall_tau=1.0)
        text = str(caught.value)
        assert left_in(tmp_path) == ["many.jsonl"]
        for expected in ("fp32 against pytorch", "int8 against fp32", "Kendall tau 0.", "top-10 overlap", "MISSED"):
            assert expected in text

    @pytest.mark.parametrize("which", ["checkpoint", "out"])
    def test_folders_whose_names_are_not_utf8_are_refused_at_once(self, which, bert, tmp_path):
        folder = tmp_path / os.fsdecode(b"caf\xe9")
        try:
            folder.mkdir()
        except OSError:
            pytest.skip("this file system takes names in UTF-8 alone")
        given = {"checkpoint": bert, "out": tmp_path / "out"} | {which: folder}
        steps = []
        with pytest.raises((InvalidInputError, ArtifactError), match=r"caf\\udce9' is not UTF-8"):
            export(**given, progress=lambda event: steps.append(event.step))
        assert set(steps) <= {"read the checkpoint"}

    def test_an_existing_artifact_is_kept_unless_forced(self, bert, pairs, tmp_path):
        options = {"precisions": ["fp32"], "verification_pairs": pairs}
        export(bert, tmp_path / "out", **options)
        before = folder_bytes(tmp_path / "out")
        with pytest.raises(ArtifactError, match="--force"):
            export(bert, tmp_path / "out", **options, max_length=32)
        assert folder_bytes(tmp_path / "out") == before
        export(bert, tmp_path / "out", **options, max_length=32, force=True)
        assert Artifact.open(tmp_path / "out").manifest.max_length == 32
        assert left_in(tmp_path) == ["out"]

    def test_a_folder_that_is_no_artifact_is_never_replaced(self, bert, pairs, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("years of work")
        with pytest.raises(ArtifactError, match="no artifact"):
            export(bert, tmp_path / "out", verification_pairs=pairs, force=True)
        assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"

    @pytest.mark.parametrize("forced", [False, True])
    def test_interrupted(self, forced, bert, pairs, tmp_path, monkeypatch):
        options = {"precisions": ["fp32"], "verification_pairs": pairs}
        before = {}
        if forced:
            export(bert, tmp_path / "out", **options)
            before = folder_bytes(tmp_path / "out")

        def interrupt(event: ExportEvent) -> None:
            if event.step.startswith("verify") and event.state == "advanced":
                assert any(name.startswith(".out.crossrank-new") for name in left_in(tmp_path))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(bert, tmp_path / "out", **options, force=forced, progress=interrupt)
        assert left_in(tmp_path) == (["out"] if forced else [])
        if forced:
            assert folder_bytes(tmp_path / "out") == before

    def test_interrupted_while_pytorch_scores_leaves_no_thread(self, bert, pairs, tmp_path):
        def interrupt(event: ExportEvent) -> None:
            if event.step == "score with PyTorch" and event.done == 3:
                raise KeyboardInterrupt

        before = set(threading.enumerate())
        with pytest.raises(KeyboardInterrupt):
            export(bert, tmp_path / "out", verification_pairs=pairs, progress=interrupt)
        assert not set(threading.enumerate()) - before
        assert left_in(tmp_path) == []

    def test_killed_and_swept_by_the_next(self, bert, pairs, tmp_path):
        code = (
            "import os, pathlib; from crossrank.export import export\n"
            "def die(event):\n"
            "    if event.step.startswith('write') and event.state == 'finished': os._exit(9)\n"
            f"export({str(bert)!r}, {str(tmp_path / 'out')!r}, precisions=['fp32'], "
            f"verification_pairs=pathlib.Path({str(pairs)!r}), progress=die)\n"
        )
        result = subprocess.run([sys.executable, "-c", code], check=False, timeout=240)
        assert result.returncode == 9
        assert len(left_in(tmp_path)) == 1
        assert not (tmp_path / "out").exists()

        export(bert, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
        assert left_in(tmp_path) == ["out"]

    @pytest.mark.parametrize("step", ["save_graph", "write_tokenizer"])
    def test_disk_full(self, step, bert, pairs, tmp_path, monkeypatch):
        def full(*_args, **_options):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(f"crossrank.export.assembly.{step}", full)
        with pytest.raises(ExportError, match=r"No space left on device.*room in .*temporary folder .*TMPDIR"):
            export(bert, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
        assert left_in(tmp_path) == []

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
    def test_temporary_folder_full(self, number, bert, pairs, tmp_path, monkeypatch):
        pytest.importorskip("optimum.exporters.onnx")

        def full(*_args, **_options):
            raise RuntimeError("export failed") from OSError(number, os.strerror(number))

        monkeypatch.setattr("optimum.exporters.onnx.export", full)
        with pytest.raises(ExportError, match=r"temporary folder .*crossrank-.*set TMPDIR") as caught:
            export(bert, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
        assert "optimum" not in str(caught.value)

    @pytest.mark.parametrize("missing", ["torch", "transformers", "onnx"])
    def test_without_the_extra(self, missing, bert, pairs, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'crossrank\[export\]'") as caught:
            export(bert, tmp_path / "out", verification_pairs=pairs)
        assert missing in str(caught.value)
        assert left_in(tmp_path) == []

    def test_without_a_runtime(self, bert, pairs, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingDependencyError, match=r"crossrank\[cpu,export\].*crossrank\[gpu,export\]"):
            export(bert, tmp_path / "out", verification_pairs=pairs)

    def test_weights_that_are_not_there_are_not_made_up(self, copy, pairs, tmp_path):
        from safetensors.torch import load_file, save_file

        tensors = load_file(copy / "model.safetensors")
        assert tensors.pop("classifier.weight").shape == (1, 64)
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UnsupportedCheckpointError, match=r"classifier\.weight"):
            export(copy, tmp_path / "out", verification_pairs=pairs)
        assert left_in(tmp_path) == ["copy"]

    def test_weights_of_another_shape(self, copy, pairs, tmp_path):
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 5}))
        with pytest.raises(UnsupportedCheckpointError, match=r"size mismatch|ignore_mismatched_sizes"):
            export(copy, tmp_path / "out", verification_pairs=pairs)

    def test_damaged_weights(self, copy, pairs, tmp_path):
        (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:1000])
        with pytest.raises(UnsupportedCheckpointError, match="cannot load"):
            export(copy, tmp_path / "out", verification_pairs=pairs)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"precisions": ["fp8"]}, "fp8"),
            ({"precisions": []}, "one or more of"),
            ({"min_kendall_tau": 1.5}, "from -1 to 1"),
            ({"max_length": 4096}, "more than the 64"),
            ({"positive_label": 1}, "single label"),
            ({"activation": "relu"}, "relu"),
            ({"name": ""}, "name=''.*not blank"),
            ({"name": " "}, "not blank"),
            ({"name": "caf\udce9"}, r"name='caf\\udce9'.*UTF-8"),
        ],
    )
    def test_options_that_cannot_be(self, options, message, bert, pairs, tmp_path):
        with pytest.raises(InvalidInputError, match=message):
            export(bert, tmp_path / "out", verification_pairs=pairs, **options)
        assert left_in(tmp_path) == []


def test_an_export_serves_other_pairs_than_it_was_verified_on(bert, pairs, tmp_path):
    """Scores agree with transformers far from the verification pairs: other texts, other lengths."""
    export(bert, tmp_path / "out", precisions=["fp32"], verification_pairs=pairs)
    others = [*make_pairs(40, seed=99), ("x", "y"), ("cold water", "日本語で 42")]
    expected = transformers_logits(bert, others, max_length=MAX_LENGTH)[:, 0]
    with ArtifactReranker(tmp_path / "out", provider="cpu", precision="fp32", activation="identity") as reranker:
        np.testing.assert_allclose(reranker.score_pairs(others), expected, atol=1e-4, rtol=0)
