"""The benchmarks on CUDA, as far as they run without a GPU: refusals, who takes part, which options each gets."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from pretend_gpu import pretend_gpu
from typer.testing import CliRunner

from crossrank.benchmarks.harness.engine_options import engine_options
from crossrank.benchmarks.harness.gpu import GpuDescription, describe_onnxruntime
from crossrank.benchmarks.harness.models_measured import find_artifacts
from crossrank.benchmarks.harness.result import Result, Subject, prepare
from crossrank.benchmarks.peers import environments as peer_environments
from crossrank.benchmarks.peers.comparison_figures import Comparison, PeerFigures
from crossrank.benchmarks.peers.contenders import PEERS, chosen_peers, own_contenders
from crossrank.benchmarks.peers.environments import environment_names, install, pip_steps
from crossrank.benchmarks.peers.workers import flashrank_adapter, sentence_transformers_adapter
from crossrank.cli.app import app
from crossrank.engine.runtime.providers import choose_provider
from crossrank.errors import PrecisionError

no_cuda = pytest.mark.skipif(choose_provider("auto").provider == "cuda", reason="CUDA works here")


@no_cuda
@pytest.mark.parametrize("command", ["latency", "peers", "ceiling", "load"])
def test_without_a_gpu_it_is_refused_with_reason_and_fix_before_anything_is_measured(
    command, tiny_artifact, tmp_path, monkeypatch
):
    monkeypatch.setattr("crossrank.benchmarks.harness.result.find_artifacts", lambda *_: pytest.fail("not refused"))
    options = ["--model", tiny_artifact, "--provider", "cuda", "--json", tmp_path / "result.json"]
    done = CliRunner().invoke(app, ["bench", command, *map(str, options)])
    assert done.exit_code == 1, done.output
    assert "provider='cuda' does not work here" in done.stderr
    assert "pip install 'crossrank[gpu]'" in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("command", ["latency", "load"])
def test_int8_on_cuda_and_unknown_providers_are_wrong_usage(command, tiny_artifact):
    for arguments, message in (
        (["--provider", "cuda", "--precision", "int8"], "fp16 or fp32 expected"),
        (["--provider", "auto"], "auto"),
    ):
        done = CliRunner().invoke(app, ["bench", command, "--model", str(tiny_artifact), *arguments])
        assert done.exit_code == 2
        assert message in done.stderr


def test_peers_that_cannot_use_cuda_are_left_out_with_the_reason():
    peers, absent = chosen_peers(None, "cuda")
    assert [peer.name for peer in peers] == [
        "sentence-transformers",
        "sentence-transformers-fp16",
        "sentence-transformers-onnx",
        "fastembed",
        "optimum",
        "infinity",
    ]
    assert set(absent) == {"sentence-transformers-openvino", "flashrank", "flashrank-int8"}
    assert all(absent.values())
    on_cpu, absent = chosen_peers(None, "cpu")
    assert set(absent) == {"sentence-transformers-fp16"}
    assert {peer.environment for peer in on_cpu} < {peer.environment for peer in PEERS} | {None}


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_every_contender_gets_the_device_and_runs_in_the_environment_for_it(provider, tmp_path):
    peers, _ = chosen_peers(None, provider)
    contenders = [
        *peers,
        *own_contenders({"fp16": tmp_path}, provider),
        *own_contenders({"fp16": tmp_path}, provider, concurrent=True),
    ]
    assert {contender.options["device"] for contender in contenders} == {provider}
    environments = {contender.environment for contender in contenders if not contender.is_own}
    assert environments <= set(environment_names(provider))
    assert all(name.endswith("-cuda") == (provider == "cuda") for name in environments)


def test_the_engine_is_opened_on_the_device_with_or_without_graphs():
    assert engine_options("cpu") == {"provider": "cpu"}
    assert engine_options("cuda", device=1, cuda_graphs=False) == {
        "provider": "cuda",
        "devices": [1],
        "cuda_graphs": False,
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"backend": "torch", "device": "cpu"}, ("cpu", {})),
        ({"backend": "torch", "device": "cuda"}, ("cuda", {})),
        ({"backend": "torch", "device": "cuda", "fp16": True}, ("cuda", {"torch_dtype": "float16"})),
        ({"backend": "onnx", "device": "cpu"}, ("cpu", {"provider": "CPUExecutionProvider"})),
        ({"backend": "onnx", "device": "cuda"}, ("cuda", {"provider": "CUDAExecutionProvider"})),
    ],
)
def test_sentence_transformers_gets_device_provider_and_type(monkeypatch, options, expected):
    received = pretend_sentence_transformers(monkeypatch, placed=expected[1].get("provider"))
    sentence_transformers_adapter.load(checkpoint="folder", **options)
    assert (received["device"], received["model_kwargs"]) == expected


def test_a_peer_that_falls_back_to_the_cpu_takes_no_part(monkeypatch):
    pretend_sentence_transformers(monkeypatch, placed="CPUExecutionProvider")
    with pytest.raises(RuntimeError, match="asked for CUDAExecutionProvider, it runs on CPUExecutionProvider"):
        sentence_transformers_adapter.load(checkpoint="folder", backend="onnx", device="cuda")


def pretend_sentence_transformers(monkeypatch, placed):
    """A sentence-transformers that records its options, and whose model runs on the provider that the test names."""
    received = {}

    def cross_encoder(folder, **options):
        received.update(options)
        return [SimpleNamespace(auto_model=SimpleNamespace(provider=placed))]

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(CrossEncoder=cross_encoder))
    torch = SimpleNamespace(float16="float16", nn=SimpleNamespace(Sigmoid=lambda: None))
    monkeypatch.setitem(sys.modules, "torch", torch)
    return received


def test_environments_for_cuda_take_pypis_torch_and_the_gpu_build_of_onnxruntime(tmp_path):
    python = str(tmp_path / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    venv, torch, others = pip_steps(tmp_path, "sentence-transformers-onnx-cuda")
    assert venv == [sys.executable, "-m", "venv", str(tmp_path)]
    assert torch == [*pip, "torch"]
    assert others[:-1] == [*pip, "--requirement", others[-2]]
    assert others[-1] == "torch"
    assert "onnxruntime-gpu[cuda,cudnn]" in Path(others[-2]).read_text()
    assert pip_steps(tmp_path, "sentence-transformers-onnx")[1] == [*pip, "torch==2.13.0"]
    assert len(pip_steps(tmp_path, "fastembed-cuda")) == 2, "it needs no torch"


def test_no_environment_for_cuda_asks_for_the_cpu_build():
    for name in environment_names("cuda"):
        lines = (peer_environments.REQUIREMENTS / f"{name}.txt").read_text().splitlines()
        packages = [line for line in lines if not line.startswith("#")]
        assert packages
        assert not [line for line in packages if line.startswith(("onnxruntime=", "onnxruntime[", "fastembed="))]
        assert not [line for line in packages if "[onnx]" in line or "[onnxruntime]" in line]


def test_the_provider_decides_which_environments_are_made(monkeypatch, tmp_path):
    attempted = []
    monkeypatch.setattr(peer_environments, "_install", lambda home, name: attempted.append(home.name) or "no network")
    assert {item.environment for item in install(tmp_path, provider="cuda")} == set(environment_names("cuda"))
    assert attempted == environment_names("cuda")
    done = CliRunner().invoke(
        app, ["bench", "peers", "--provider", "cuda", "--install-only", "--peers-folder", str(tmp_path)]
    )
    assert done.exit_code == 1
    assert "infinity-cuda: no network" in done.stderr


def test_only_graphs_for_cuda_are_measured_there(tiny_checkpoint, tiny_graphs, tmp_path):
    from tiny_artifacts import write_artifact

    folder = write_artifact(tmp_path / "fp16", tiny_checkpoint("bert"), tiny_graphs, precisions=("fp32", "fp16"))
    artifacts, missing = find_artifacts(str(folder), ["fp16", "fp32"], None, "cuda")
    assert artifacts == {"fp16": folder}
    assert "no fp32 graph for provider 'cuda'" in missing["fp32"]
    with pytest.raises(PrecisionError, match="provider 'cuda'"):
        find_artifacts(str(folder), ["fp32"], None, "cuda")


def test_the_latency_grid_runs_on_a_simulated_gpu(tiny_checkpoint, tiny_graphs, tmp_path, monkeypatch):
    from tiny_artifacts import write_artifact

    pretend_gpu(monkeypatch)
    monkeypatch.setattr("crossrank.benchmarks.harness.result.choose_provider", lambda _: None)
    precisions = ("fp32", "fp16")
    folder = write_artifact(tmp_path / "fp16", tiny_checkpoint("bert"), tiny_graphs, precisions=precisions)
    written = tmp_path / "result.json"
    options = ["--model", folder, "--documents", "short", "--top-k", "3", "--seconds", "0", "--json", written]
    done = CliRunner().invoke(app, ["bench", "latency", "--provider", "cuda", *map(str, options)])
    assert done.exit_code == 0, done.output
    result = json.loads(written.read_text())
    assert result["provider"] == "cuda"
    assert [row["precision"] for row in result["latency"]] == ["fp16"]
    assert "no fp32 graph for provider 'cuda'" in result["missing_precisions"]["fp32"]
    for when in ("gpu", "gpu_after"):
        assert {"nvidia_smi", "cuda_libraries", "onnxruntime"} <= set(result[when])


def test_a_peer_that_runs_on_the_cpu_only_says_so():
    with pytest.raises(ValueError, match="asked for cuda; FlashRank runs on the CPU"):
        flashrank_adapter.load(graph="model.onnx", device="cuda")


def test_a_result_of_a_gpu_shows_device_driver_clocks_and_who_was_left_out(tiny_artifact):
    setup = prepare(Subject(model=str(tiny_artifact)))
    smi = dict.fromkeys(("name", "memory.total", "power.limit", "clocks.mem", "clocks.max.sm", "temperature.gpu"), "x")
    smi |= {"driver_version": "550.54", "clocks.sm": "1710 MHz"}
    gpu = GpuDescription(0, smi, {"nvidia-cudnn-cu12": "9.1"}, describe_onnxruntime())
    after = replace(gpu, nvidia_smi=smi | {"clocks.sm": "1500 MHz"})
    figures = PeerFigures(Comparison({}, {"flashrank": "it runs on the CPU"}))
    result = Result(replace(setup.conditions, gpu=gpu, gpu_after=after), figures)
    cells = [" ".join(row) for table in result.tables() for row in table.rows]
    assert any("driver 550.54" in row for row in cells)
    assert any("1710 MHz, after 1500 MHz" in row for row in cells)
    assert any("nvidia-cudnn-cu12 9.1" in row for row in cells)
    assert any(row.startswith("flashrank") and "left out: it runs on the CPU" in row for row in cells)
    document = json.loads(result.to_json())
    assert document["gpu_after"]["nvidia_smi"]["clocks.sm"] == "1500 MHz"
    assert "gpu" not in json.loads(Result(setup.conditions, figures).to_json()), "there is none on the CPU"
    gone = replace(gpu, nvidia_smi={"reason": "nvidia-smi does not run here"})
    table = Result(replace(setup.conditions, gpu=gone), figures).tables()[0]
    assert any("does not run here" in " ".join(row) for row in table.rows)
