"""Where settings come from, what they refuse, and what is printed of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crossrank.errors import InvalidInputError
from crossrank.server.settings import ServerSettings, describe_settings, read_settings


def test_flags_go_before_the_environment_before_the_file_before_defaults(tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text('port = 1\nhost = "file"\nworkers = 2\nkeep_alive = 5\n', encoding="utf-8")
    environment = {"CROSSRANK_PORT": "2", "CROSSRANK_HOST": "environment", "CROSSRANK_LOG_TEXTS": "true"}
    settings, origins = read_settings({"port": 3, "host": None}, config_file=file, environment=environment)
    assert (settings.port, settings.host, settings.workers) == (3, "environment", 2)
    assert settings.log_texts is True
    printed = describe_settings(settings, origins)
    assert "port = 3  (flag)" in printed
    assert "host = environment  (environment CROSSRANK_HOST)" in printed
    assert f"workers = 2  (file {file})" in printed
    assert "max_documents = 10000  (default)" in printed
    assert "model default = default  (default)" in printed


def test_models_come_as_pairs_or_tables_and_options_for_all_of_them(tmp_path):
    settings, _ = read_settings({"models": ["fast=/a", "/b"], "threads": 2, "raw_scores": True}, environment={})
    assert list(settings.models) == ["fast", "/b"]
    assert [model.source for model in settings.models.values()] == ["/a", "/b"]
    assert {model.threads for model in settings.models.values()} == {2}
    assert all(model.raw_scores for model in settings.models.values())
    file = tmp_path / "serve.toml"
    file.write_text(
        'precision = "fp32"\n[models."rerank-v3.5"]\nsource = "default"\nprecision = "int8"\n[models.default]\n',
        encoding="utf-8",
    )
    settings, origins = read_settings({}, config_file=file, environment={})
    assert {name: (model.source, model.precision) for name, model in settings.models.items()} == {
        "rerank-v3.5": ("default", "int8"),
        "default": ("default", "fp32"),
    }
    assert any(
        line.startswith("model default = default, precision=fp32") for line in describe_settings(settings, origins)
    )
    settings, _ = read_settings({}, environment={"CROSSRANK_MODELS": "a=x,b=y"})
    assert [model.source for model in settings.models.values()] == ["x", "y"]


@pytest.mark.parametrize(
    ("flags", "environment", "origin"),
    [
        ({"precision": "fp32", "raw_scores": False}, {}, "flag"),
        ({}, {"CROSSRANK_PRECISION": "fp32", "CROSSRANK_RAW_SCORES": "false"}, "environment CROSSRANK_PRECISION"),
    ],
)
def test_what_a_flag_or_a_variable_says_of_all_models_goes_before_their_tables(tmp_path, flags, environment, origin):
    file = tmp_path / "serve.toml"
    file.write_text(
        'precision = "auto"\n[models.a]\nprecision = "int8"\nraw_scores = true\nthreads = 3\n[models.b]\n',
        encoding="utf-8",
    )
    settings, origins = read_settings(flags, config_file=file, environment=environment)
    assert {name: (model.precision, model.raw_scores) for name, model in settings.models.items()} == {
        "a": ("fp32", False),
        "b": ("fp32", False),
    }
    assert settings.models["a"].threads == 3
    assert f"model a = a, precision=fp32 ({origin}), threads=3  (file {file})" in describe_settings(settings, origins)


@pytest.mark.parametrize(
    ("flags", "environment", "text", "expected"),
    [
        ({"port": 70000}, {}, "", r"port=70000 \(flag\)"),
        ({}, {"CROSSRANK_WORKERS": "many"}, "", r"workers='many' \(environment CROSSRANK_WORKERS\)"),
        ({}, {}, "max_documents = 0", r"max_documents=0 \(file "),
        ({}, {}, "max_docs = 3", r"unknown settings max_docs; known: .*max_documents"),
        ({}, {}, "port = ", "no TOML"),
        ({}, {}, '[models.a]\nsuorce = "x"', r"models\.a\.suorce"),
        ({"models": ["a=1", "a=2"]}, {}, "", "two models are called 'a'"),
        ({"models": ["a="]}, {}, "", "NAME=SOURCE or SOURCE expected"),
        ({"max_buffered_bytes": 5}, {}, "", "no room for one body"),
        ({}, {"CROSSRANK_THREADS": "many"}, "", r"threads='many' \(environment CROSSRANK_THREADS\)"),
        ({}, {"CROSSRANK_THREADS": "many"}, "[models.a]", r"threads='many' \(environment CROSSRANK_THREADS\)"),
        ({}, {}, "[models.a]\nthreads = 0", r"models.a.threads=0 \(file "),
        ({"models": ["a"]}, {}, "threads = 0", r"models.a.threads=0 \(file "),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_origin(tmp_path, flags, environment, text, expected):
    file = tmp_path / "serve.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=expected):
        read_settings(flags, config_file=file, environment=environment)


def test_every_setting_can_be_given_by_a_flag():
    from typer.main import get_command

    from crossrank.cli.app import app
    from crossrank.server.settings import MODEL_OPTIONS

    flags = {parameter.name for parameter in get_command(app).commands["serve"].params}
    only_in_files = {"max_batch_tokens", "revision", "instruction", "positive_label"}
    assert ({*ServerSettings.model_fields, *MODEL_OPTIONS} - {"models"}) - flags == only_in_files


def test_settings_are_printed_without_starlette_and_serving_says_what_to_install():
    code = (
        "import sys\n"
        "for name in ('starlette', 'uvicorn', 'prometheus_client'): sys.modules[name] = None\n"
        "from crossrank.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "serve", "--port", "9"]
    checked = subprocess.run([*command, "--check"], capture_output=True, text=True, check=True)
    assert "port = 9  (flag)" in checked.stderr
    served = subprocess.run(command, capture_output=True, text=True, check=False)
    assert served.returncode == 1
    assert "pip install 'crossrank[cpu,server]'" in served.stderr


def test_a_file_of_keys_without_a_key_is_refused(tmp_path):
    from crossrank.server.keys import Keys

    (tmp_path / "keys").write_text("# none\n\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="a key a line expected"):
        Keys.read(tmp_path / "keys")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        Keys.read(tmp_path / "missing")


def test_keys_are_whole_lines_whatever_mark_the_file_begins_with(tmp_path):
    from crossrank.server.keys import Keys

    (tmp_path / "keys").write_text("\ufefffirst\n  # a comment\nsecond # of team A\n", encoding="utf-8")
    keys = Keys.read(tmp_path / "keys")
    assert keys.accept("Bearer first")
    assert keys.accept("Bearer second # of team A")
    assert not keys.accept("Bearer second")
