"""The description of a GPU: nvidia-smi's output, its absence, device numbers, library versions."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from crossrank.benchmarks.harness import gpu
from crossrank.benchmarks.harness.gpu import FIELDS, ask_smi, describe_gpu, parse_smi, smi_selector, used_mebibytes

SAMPLE = (
    "NVIDIA A10G, GPU-5f3c0f2e-0000-1111-2222-333344445555, 550.54.15, 1710 MHz, 6251 MHz, 1710 MHz, 300.00 W, 41, "
    "23028 MiB, 615 MiB\n"
    "NVIDIA A10G, GPU-6f3c0f2e-0000-1111-2222-333344445555, 550.54.15, 210 MHz, 405 MHz, 1710 MHz, [N/A], 28, "
    "23028 MiB, 4 MiB\n"
)


def test_every_field_of_every_gpu_is_read_and_fields_that_the_driver_does_not_report_are_none():
    answer = parse_smi(SAMPLE)
    assert answer.reason == ""
    first, second = answer.devices
    assert tuple(first) == FIELDS
    assert (first["name"], first["driver_version"], first["clocks.sm"]) == ("NVIDIA A10G", "550.54.15", "1710 MHz")
    assert (first["power.limit"], second["power.limit"]) == ("300.00 W", None)
    assert second["memory.used"] == "4 MiB"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "named no GPU"), ("No devices were found\n", "10 fields expected"), ("a, b\n", "10 fields expected")],
)
def test_output_without_a_gpu_gives_a_reason(text, reason):
    answer = parse_smi(text)
    assert answer.devices == ()
    assert reason in answer.reason


@pytest.fixture
def smi(tmp_path):
    """A function that writes a program to run instead of nvidia-smi; it stores its arguments in a file beside it."""

    def make(code):
        program = tmp_path / "nvidia-smi"
        program.write_text(
            f"#!{sys.executable}\nimport sys, pathlib, time\n"
            f"pathlib.Path({str(tmp_path / 'arguments')!r}).write_text(' '.join(sys.argv[1:]))\n{code}\n"
        )
        program.chmod(0o755)
        return str(program)

    return make


def test_the_program_is_asked_for_the_fields_of_one_gpu(smi, tmp_path):
    answer = ask_smi(selector="1", program=smi(f"print({SAMPLE.splitlines()[1]!r})"))
    assert len(answer.devices) == 1
    arguments = (tmp_path / "arguments").read_text()
    assert arguments == f"--query-gpu={','.join(FIELDS)} --format=csv,noheader -i 1"


def test_a_program_that_is_absent_or_fails_or_hangs_gives_a_reason(smi, monkeypatch):
    absent = ask_smi(program="/no/such/nvidia-smi")
    assert "does not run here" in absent.reason
    failed = ask_smi(program=smi("print('NVIDIA-SMI has failed because\\n it could not communicate'); sys.exit(9)"))
    assert failed.reason.endswith("exit status 9: NVIDIA-SMI has failed because it could not communicate")
    monkeypatch.setattr(gpu, "_TIMEOUT", 0.2)
    assert "no answer within" in ask_smi(program=smi("time.sleep(30)")).reason


@pytest.mark.parametrize(
    ("device", "visible", "selector"),
    [
        (0, None, "0"),
        (1, None, "1"),
        (0, "2,3", "2"),
        (1, "2, 3", "3"),
        (0, "GPU-5f3c", "GPU-5f3c"),
        (4, "2,3", "4"),
        (0, "", "0"),
    ],
)
def test_a_device_is_the_one_that_the_environment_leaves_visible(device, visible, selector):
    assert smi_selector(device, visible) == selector


@pytest.mark.parametrize(("output", "mebibytes"), [("615 MiB", 615), ("[N/A]", None), ("much", None)])
def test_memory_in_use_is_a_number_or_unknown(monkeypatch, output, mebibytes):
    monkeypatch.setattr(gpu, "ask_smi", lambda fields, selector: parse_smi(f"{output}\n", fields))
    assert used_mebibytes(0) == mebibytes


def test_a_description_has_device_libraries_and_the_build(monkeypatch):
    distributions = [
        SimpleNamespace(metadata={"Name": name}, version="1.2")
        for name in ("nvidia-cudnn-cu12", "numpy", "nvidia-cublas-cu12")
    ]
    monkeypatch.setattr(gpu.importlib.metadata, "distributions", lambda: distributions)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    selectors = []

    def ask(selector):
        selectors.append(selector)
        return parse_smi(SAMPLE.splitlines()[0])

    monkeypatch.setattr(gpu, "ask_smi", ask)
    description = describe_gpu(1)
    assert selectors == ["0"]
    assert description.nvidia_smi["driver_version"] == "550.54.15"
    assert description.cuda_libraries == {"nvidia-cublas-cu12": "1.2", "nvidia-cudnn-cu12": "1.2"}
    assert description.onnxruntime.build.startswith("ORT Build Info")
    assert "CPUExecutionProvider" in description.onnxruntime.providers


def test_without_a_driver_the_description_has_the_reason_instead_of_the_device(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "reason" in describe_gpu().nvidia_smi
