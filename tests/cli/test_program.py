"""The program as a whole: help, version, exit codes, tracebacks only when asked for, pipes."""

import os
import platform
import signal
import subprocess
import sys

import pytest

import crossrank as package
from crossrank import cli

COMMANDS = ("rerank", "export", "inspect", "report", "models", "self-check", "evaluate", "bench")
COMPLETING = "import sys; sys.argv = ['crossrank']; from crossrank.cli import main; main()"
BENCHMARKS = ("latency", "ceiling", "deadlines", "windows", "peers", "load", "cascade")


def test_help_lists_the_commands_and_goes_to_standard_output(crossrank):
    result = crossrank("--help")
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)
    assert result.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(crossrank, command):
    result = crossrank(command, "--help")
    assert result.exit_code == 0
    assert f"crossrank {command}" in result.stdout


@pytest.mark.parametrize("measured", BENCHMARKS)
def test_every_benchmark_explains_itself_and_is_listed(crossrank, measured):
    assert measured in crossrank("bench", "--help").stdout
    result = crossrank("bench", measured, "--help")
    assert result.exit_code == 0
    assert f"crossrank bench {measured}" in result.stdout


def test_the_packages_docstring_names_every_command():
    assert all(command in cli.__doc__ for command in COMMANDS)


def test_the_version_is_printed_with_what_scores_here(crossrank):
    import onnxruntime

    result = crossrank("--version")
    first, python, runtime = result.stdout.splitlines()
    assert (result.exit_code, first) == (0, f"crossrank {package.__version__}")
    assert python.startswith(f"python {platform.python_version()}, ")
    assert f" {onnxruntime.__version__}, providers: " in runtime
    assert "CPUExecutionProvider" in runtime


def test_the_version_is_printed_without_a_runtime_too(crossrank, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = crossrank("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"crossrank {package.__version__}\n")
    assert "pip install 'crossrank[cpu]'" in result.stdout


def test_the_exit_codes_are_in_the_help(crossrank):
    assert "Exit codes: 0 " in " ".join(crossrank("--help").stdout.split())


def test_the_package_runs_as_a_module(tiny_artifact):
    command = [sys.executable, "-m", "crossrank", "inspect", str(tiny_artifact / "nothing here")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("crossrank: ")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("crossrank in", {"inspect"}),
        ("crossrank rerank --model defa", {"default", "default-small"}),
        ("crossrank bench latency -m default-", {"default-small"}),
        ("crossrank pull ms-marco-MiniLM-L6", {"ms-marco-MiniLM-L6-v2"}),
        ("crossrank inspect defa", {"default", "default-small"}),
        ("crossrank rerank --prec", {"--precision"}),
        ("crossrank rerank --model ./exports/", set()),  # bash then offers the files
    ],
)
def test_a_shell_completes_commands_options_and_models(line, offered):
    words = line.split()
    environment = {"_CROSSRANK_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", COMPLETING], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert set(done.stdout.split()) == offered, done.stderr


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_the_script_for_completion_is_printed(crossrank, monkeypatch, shell_name):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    result = crossrank("--show-completion", shell_name)
    assert result.exit_code == 0, result.output
    assert "_CROSSRANK_COMPLETE" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["sing"],
        ["--sing"],
        ["rerank"],
        ["rerank", "-q", "who", "--top-k", "-1"],
        ["rerank", "-q", "who", "--top-k", "some"],
        ["rerank", "-q", "who", "--format", "xml"],
        ["rerank", "-q", "who", "--precision", "int4"],
        ["rerank", "-q", "who", "--provider", "tpu"],
        ["rerank", "-q", "who", "--threads", "0"],
        ["inspect"],
        ["inspect", "a", "b"],
        ["models", "all"],
        ["export"],
        ["export", "checkpoint"],
        ["export", "checkpoint", "out", "--tokenizer", "folder"],
        ["export", "out", "--from-onnx", "model.onnx"],
        ["export", "checkpoint", "out", "--from-onnx", "model.onnx", "--tokenizer", "folder"],
        ["export", "out", "--from-onnx", "model.onnx", "--tokenizer", "folder", "--revision", "main"],
        ["export", "checkpoint", "out", "--precision", "int4"],
        ["export", "checkpoint", "out", "--precision", ""],
        ["export", "checkpoint", "out", "--name", " "],
        ["export", "out", "--from-onnx", "model.onnx", "--tokenizer", "folder", "--precision", ","],
        ["export", "checkpoint", "out", "--min-kendall-tau", "2"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_why_on_standard_error(crossrank, arguments):
    result = crossrank(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr


def test_a_failure_ends_with_1_and_one_line_on_standard_error(crossrank, tmp_path):
    result = crossrank("inspect", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"crossrank: {tmp_path} is no artifact")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [(["inspect", "/nowhere"], 1, "ArtifactError"), (["rerank", "-q", "who", "/nowhere"], 1, "FileNotFoundError")],
)
def test_the_traceback_is_shown_only_with_debug_and_the_exit_code_stays(crossrank, arguments, code, error):
    plain, debug = crossrank(*arguments), crossrank("--debug", *arguments)
    assert plain.exit_code == debug.exit_code == code
    assert "Traceback" not in plain.stderr
    assert "Traceback (most recent call last)" in debug.stderr
    assert error in debug.stderr


def test_in_a_shell_output_and_errors_are_apart_and_the_code_is_the_processes(shell, tiny_artifact):
    documents = "the river\nevery reader\n"
    good = shell("rerank", "-q", "who reads", "-m", tiny_artifact, "--format", "jsonl", input=documents)
    assert good.returncode == 0, good.stderr
    assert good.stdout.count("\n") == 2
    assert good.stderr == ""
    bad = shell("rerank", "-q", "who reads", "-m", tiny_artifact.parent / "nothing here", input=documents)
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (1, "", 1)
    assert shell("rerank", "-m", tiny_artifact, input=documents).returncode == 2


def test_no_progress_is_drawn_where_there_is_no_terminal(shell, tiny_artifact):
    done = shell("rerank", "-q", "who", "-m", tiny_artifact, input="the river\n")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert done.stderr.count("\n") == 1


def test_progress_is_drawn_on_a_terminal_on_standard_error_alone(tiny_artifact):
    import pty

    reading, terminal = pty.openpty()
    command = [sys.executable, "-c", "from crossrank.cli import main; main()"]
    arguments = ["rerank", "-q", "who", "-m", str(tiny_artifact), "--format", "jsonl"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(
        command + arguments,
        input=b"the river\n",
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=environment,
        timeout=120,
        check=True,
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(reading, 65536):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    os.close(reading)
    assert b"scoring 1 documents" in shown
    assert b"scoring" not in done.stdout
    assert done.stdout.count(b"\n") == 1


def test_a_closed_pipe_prints_no_error_message(tiny_artifact, tmp_path):
    documents = tmp_path / "documents.txt"
    documents.write_text("".join(f"document {index} of many\n" for index in range(3000)))
    crossrank = f'{sys.executable} -c "from crossrank.cli import main; main()"'
    command = f"{crossrank} rerank -q who -m {tiny_artifact} -k 3000 --format jsonl {documents} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("closed", "code", "printed"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, "the river"),
        (">&- 2>&-", 0, ""),
        (
            "<&-",
            1,
            "crossrank: standard input is closed; documents on standard input, or a file as argument, expected\n",
        ),
        ("<&- >&- 2>&-", 1, ""),
    ],
)
def test_closed_standard_streams_are_no_tracebacks(tiny_artifact, tmp_path, closed, code, printed):
    file = "" if "<" in closed else tmp_path / "documents.txt"
    if file:
        file.write_text("the river\n")
    crossrank = f'{sys.executable} -c "from crossrank.cli import main; main()"'
    command = f"{crossrank} rerank -q who -m {tiny_artifact} {file} {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert printed in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if closed == ">&- 2>&-":
        wrong = subprocess.run(["bash", "-c", f"{crossrank} inspect /nowhere {closed}"], timeout=120, check=False)
        assert wrong.returncode == 1


INTERRUPTED = """
import io, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process may have been started to ignore it

def wait():
    print("ready", file=sys.stderr, flush=True)
    threading.Event().wait(60)

class Importing:
    def find_spec(self, name, *_):
        if name == "crossrank.cli.app":
            wait()

class Reading(io.BytesIO):
    def readable(self):
        return True
    def read(self, *_):
        wait()
    readinto = readline = read1 = read

if sys.argv.pop(1) == "importing":
    sys.meta_path.insert(0, Importing())
else:
    sys.stdin = io.TextIOWrapper(Reading())
from crossrank.cli import main
main()
"""


@pytest.mark.parametrize("moment", ["importing", "reading"])
def test_ctrl_c_is_one_line_and_130(tiny_artifact, moment):
    command = [sys.executable, "-c", INTERRUPTED, moment, "rerank", "-q", "who", "-m", str(tiny_artifact)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stderr.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        printed, told = child.communicate(timeout=60)
    assert (child.returncode, printed, told) == (130, "", "crossrank: interrupted\n")


def test_a_terminal_without_utf8_shows_what_it_can(shell, tiny_artifact):
    plain = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    table = shell("rerank", "-q", "who", "-m", tiny_artifact, input="Z\u00fcrich\n", env=plain)
    assert table.returncode == 0, table.stderr
    assert "Z?rich" in table.stdout
    lines = shell("rerank", "-q", "who", "-m", tiny_artifact, "--format", "jsonl", input="Z\u00fcrich\n", env=plain)
    assert lines.returncode == 0, lines.stderr
    assert "Z\\u00fcrich" in lines.stdout
