"""Messages of onnxruntime about a provider that does not start are captured; output of other code is not lost."""

import os

import pytest

from crossrank.engine.runtime.onnxruntime_messages import caught_messages

PRINTED = (
    "\x1b[0;93m2026-11-23 05:26:43.5 [W:onnxruntime:Default, onnxruntime_pybind_state.cc:856 operator()] No registered "
    "plugin EP device found for 'CUDAExecutionProvider' with device_id=0\x1b[m\n"
    "\x1b[1;31m2026-11-23 05:26:43.5 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] /src/bridge.cc:1"
    " onnxruntime::Provider& Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library /x/libproviders_cuda.so with "
    "error: libcublasLt.so.13: cannot open shared object file: No such file or directory\n\x1b[m\n"
    "\x1b[0;93m2026-11-23 05:26:43.5 [W:onnxruntime:Default, onnxruntime_pybind_state.cc:1295 Create] Failed to create "
    "CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*. Please install all dependencies as mentioned\x1b[m\n"
)


def test_only_the_reason_is_kept_of_what_onnxruntime_prints(capfd):
    with caught_messages() as messages:
        os.write(2, PRINTED.encode())
        assert messages == []
    missing = "libcublasLt.so.13: cannot open shared object file: No such file or directory"
    assert messages == [
        f"Failed to load library /x/libproviders_cuda.so with error: {missing}",
        "Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*",
    ]
    assert capfd.readouterr().err == ""


def test_what_other_code_prints_meanwhile_is_passed_on(capfd):
    with caught_messages() as messages:
        os.write(2, b"the application says something\n" + PRINTED.encode() + b"and more\n")
    os.write(2, b"afterwards\n")
    assert len(messages) == 2
    assert capfd.readouterr().err.splitlines() == ["the application says something", "and more", "afterwards"]


def test_an_error_inside_leaves_standard_error_as_it_was(capfd):
    with pytest.raises(ZeroDivisionError), caught_messages():
        1 / 0  # noqa: B018
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_where_standard_error_is_closed_nothing_is_caught(monkeypatch):
    def closed(descriptor):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(os, "dup", closed)
    with caught_messages() as messages:
        pass
    assert messages == []
