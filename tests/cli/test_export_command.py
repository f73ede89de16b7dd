"""`crossrank export`: the options reach the exporter, and its report is printed for people or for programs."""

import json
import shutil
from pathlib import Path

import pytest

from crossrank.errors import FidelityError, MissingDependencyError
from crossrank.models.artifact import Artifact
from crossrank.models.manifest import Fidelity, PassRecord, Verification


@pytest.fixture
def exporter(monkeypatch):
    """Replace `export` and `import_onnx`; the list has the calls, and an error given is raised instead."""
    from crossrank.export.report import ExportReport, GraphReport, StepReport

    calls = []

    def make(error=None):
        def record(*arguments, **options):
            calls.append((arguments, options))
            if error:
                raise error
            graph = GraphReport(
                file="int8.onnx",
                precision="int8",
                size=2_500_000,
                providers=("cpu",),
                fidelity=Fidelity(
                    reference="fp32", queries=2, pairs=40, max_abs_logit_difference=0.25, kendall_tau=0.9123
                ),
                milliseconds_per_pair=1.25,
                passes=(PassRecord(name="prune", changed=True, detail="[x] done"),),
            )
            return ExportReport(
                artifact=Path(arguments[-1]),
                name="tiny",
                graphs=(graph,),
                steps=(StepReport(name="load", seconds=2.0, size=5),),
                verification=Verification(reference="a library 1.0", tokens="its own", probes=20, max_abs_difference=0),
                notes=("two labels: [/0] means relevant",),
            )

        monkeypatch.setattr("crossrank.export.pipeline.export", record)
        monkeypatch.setattr("crossrank.export.from_onnx.import_onnx", record)
        return calls

    return make


def test_a_checkpoint_is_exported_in_all_precisions_by_default(crossrank, exporter):
    calls = exporter()
    result = crossrank("export", "owner/name", "out")
    assert result.exit_code == 0, result.output
    ((arguments, options),) = calls
    assert arguments == ("owner/name", Path("out"))
    assert options["precisions"] == ("fp32", "int8", "fp16")
    assert (options["force"], options["trust_remote_code"], options["min_kendall_tau"]) == (False, False, 0.85)
    given = {key for key, value in options.items() if value is not None} - {"progress"}
    assert given == {"precisions", "force", "trust_remote_code", "min_kendall_tau"}


def test_every_option_reaches_the_exporter(crossrank, exporter):
    calls = exporter()
    result = crossrank(
        *("export", "owner/name", "out", "--precision", "fp32, int8", "--force", "--trust-remote-code"),
        *("--activation", "sigmoid", "--positive-label", "1", "--max-length", "128", "--name", "mine"),
        *("--revision", "v1", "--verification-pairs", "pairs.jsonl", "--min-kendall-tau", "0.9"),
        *("--exporter", "torch", "--template", "qwen3-reranker"),
    )
    assert result.exit_code == 0, result.output
    options = calls[0][1]
    del options["progress"]
    assert options == {
        "precisions": ("fp32", "int8"),
        "force": True,
        "trust_remote_code": True,
        "activation": "sigmoid",
        "positive_label": "1",
        "max_length": 128,
        "name": "mine",
        "revision": "v1",
        "verification_pairs": Path("pairs.jsonl"),
        "min_kendall_tau": 0.9,
        "exporter": "torch",
        "template": "qwen3-reranker",
    }


def test_a_label_may_be_named(crossrank, exporter):
    calls = exporter()
    crossrank("export", "owner/name", "out", "--positive-label", "relevant")
    assert calls[0][1]["positive_label"] == "relevant"


@pytest.mark.parametrize("name", ["1", "0", "\u00b2", "9" * 5000, "--1"])
def test_a_label_is_passed_on_as_it_is_written(crossrank, exporter, name):
    calls = exporter()
    assert crossrank("export", "owner/name", "out", f"--positive-label={name}").exit_code == 0
    assert calls[0][1]["positive_label"] == name


def test_digits_name_the_label_of_that_name_before_the_one_at_that_index(crossrank, tiny_checkpoint, tmp_path):
    folder = tmp_path / "swapped"
    shutil.copytree(tiny_checkpoint("bert", num_labels=2), folder)
    config = json.loads((folder / "config.json").read_text())
    names = {"id2label": {"0": "1", "1": "0"}, "label2id": {"1": 0, "0": 1}}
    (folder / "config.json").write_text(json.dumps(config | names))
    options = ("--precision", "fp32", "--positive-label", "1", "--min-kendall-tau", "0.5")
    result = crossrank("export", folder, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    manifest = Artifact.open(tmp_path / "out").manifest
    assert (manifest.label_names, manifest.positive_label) == (("1", "0"), 0)


def test_an_onnx_file_is_imported(crossrank, exporter):
    calls = exporter()
    result = crossrank("export", "--from-onnx", "model.onnx", "--tokenizer", "folder", "out", "--force")
    assert result.exit_code == 0, result.output
    ((arguments, options),) = calls
    assert arguments == (Path("model.onnx"), Path("folder"), Path("out"))
    assert (options["precisions"], options["force"]) == (None, True)


def test_people_get_a_summary_with_names_as_they_are(crossrank, exporter):
    exporter()
    result = crossrank("export", "owner/name", "out[/x]")
    assert result.exit_code == 0, result.exception
    for part in ("int8.onnx", "2.5", "0.25", "0.912", "[x] done", "two labels: [/0] means relevant", "out[/x] written"):
        assert part in result.stdout
    assert result.stderr == ""


def test_programs_get_the_report(crossrank, exporter):
    exporter()
    result = crossrank("export", "owner/name", "out", "--json")
    report = json.loads(result.stdout)
    assert report["artifact"] == "out"
    assert report["graphs"][0]["fidelity"]["kendall_tau"] == 0.9123


@pytest.mark.parametrize(
    "error",
    [
        FidelityError("int8: Kendall tau 0.5, at least 0.85 expected"),
        MissingDependencyError("needs torch; install it with: pip install 'crossrank[export]'"),
    ],
)
def test_a_failure_is_reported_in_one_line(crossrank, exporter, error):
    exporter(error)
    result = crossrank("export", "owner/name", "out")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"crossrank: {error}\n")


def test_without_the_extra_the_fix_is_named(crossrank, monkeypatch, tiny_checkpoint, tmp_path):
    import sys

    checkpoint = tiny_checkpoint("bert")
    monkeypatch.setitem(sys.modules, "torch", None)
    result = crossrank("export", checkpoint, tmp_path / "out")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "crossrank[export]" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_existing_artifact_is_kept_without_force(crossrank, tiny_checkpoint, tiny_artifact):
    before = (tiny_artifact / "manifest.json").read_bytes()
    result = crossrank("export", tiny_checkpoint("bert"), tiny_artifact)
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert (tiny_artifact / "manifest.json").read_bytes() == before
