"""What the service is told: settings with their defaults, and where each value came from.

A setting is given by a flag, by an environment variable (`CROSSRANK_` and its name in capitals) or in a TOML file; the
first of these that has it counts.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path  # noqa: TC003  pydantic reads the annotations
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from crossrank.errors import InvalidInputError
from crossrank.models.embedded import DEFAULT_MODEL

ENVIRONMENT_PREFIX = "CROSSRANK_"

_MIB = 1 << 20


class ModelSettings(BaseModel):
    """One model that is served.

    Attributes:
        source: 'default', a folder, a catalogue name or a hub id, as for `Reranker`.
        provider: as for `Reranker`, likewise the others up to `positive_label`.
        raw_scores: whether a request that does not say gets logits; else scores are between 0 and 1 (sigmoid).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    max_length: int | None = Field(default=None, ge=1)
    max_queue_tokens: int | None = Field(default=None, ge=1)
    max_batch_tokens: int | None = Field(default=None, ge=1)
    long_documents: Literal["truncate", "windows"] = "truncate"
    score_cache_bytes: int | None = Field(default=None, ge=1)
    revision: str | None = None
    trust_remote_code: bool = False
    instruction: str | None = None
    positive_label: int | str | None = None
    raw_scores: bool = False


MODEL_OPTIONS = tuple(name for name in ModelSettings.model_fields if name != "source")
"""Options of a model that may also be given once for all models."""


class ServerSettings(BaseModel):
    """Everything `crossrank serve` can be told. Sizes are in bytes or characters, times in seconds unless named `_ms`.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        workers: processes that serve, each with its own copy of the models.
        models: the models by the names that requests use; the first serves requests without a name.
        keys_file: file with a bearer key a line; without one no key is asked for.
        max_body_bytes: of one request's body.
        max_documents: of one request.
        max_characters: of one request, query and documents together.
        max_concurrent_bodies: bodies that are read at the same time.
        max_buffered_bytes: of all bodies that are being read.
        max_connections: connections at the same time, in each worker process.
        header_timeout: from a connection, or from the first byte of a further request, until its headers are complete.
        stall_timeout: between two parts of a body.
        body_timeout: for a whole body.
        write_timeout: for which a client may leave its answer unread.
        keep_alive: for which a connection may stay open without a request.
        drain_timeout: for accepted requests after SIGTERM.
        default_deadline_ms: deadline of requests that name none; None sets none.
        log_format: 'text' or 'json', of the access log on standard error.
        log_texts: whether the access log has queries and documents.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)
    models: dict[str, ModelSettings] = Field(default_factory=lambda: {"default": ModelSettings(source=DEFAULT_MODEL)})
    keys_file: Path | None = None
    max_body_bytes: int = Field(default=10 * _MIB, ge=1)
    max_documents: int = Field(default=10_000, ge=1)
    max_characters: int = Field(default=10_000_000, ge=1)
    max_concurrent_bodies: int = Field(default=1024, ge=1)
    max_buffered_bytes: int = Field(default=256 * _MIB, ge=1)
    max_connections: int = Field(default=4096, ge=1)
    header_timeout: float = Field(default=10.0, gt=0)
    stall_timeout: float = Field(default=10.0, gt=0)
    body_timeout: float = Field(default=60.0, gt=0)
    write_timeout: float = Field(default=30.0, gt=0)
    keep_alive: float = Field(default=75.0, gt=0)
    drain_timeout: float = Field(default=30.0, ge=0)
    default_deadline_ms: float | None = Field(default=None, gt=0)
    log_format: Literal["text", "json"] = "text"
    log_texts: bool = False

    @field_validator("models")
    @classmethod
    def _any_model(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        if not models:
            raise ValueError("at least one model expected")
        return models

    @model_validator(mode="after")
    def _room_for_a_body(self) -> ServerSettings:
        if self.max_buffered_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_buffered_bytes={self.max_buffered_bytes} has no room for one body of max_body_bytes="
                f"{self.max_body_bytes}"
            )
        return self


class Origins(dict[str, str]):
    """For each setting where its value came from: 'flag', 'environment', the file's name, or 'default'."""


def read_settings(
    flags: Mapping[str, Any],
    *,
    config_file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> tuple[ServerSettings, Origins]:
    """Settings from flags, environment and a TOML file, in this order of precedence.

    Args:
        flags: settings by name, and options of `MODEL_OPTIONS` for all models; those that are None were not given.
            `models` is a list of 'NAME=SOURCE' or 'SOURCE'.
        config_file: a TOML file with the settings at its top, and `[models.NAME]` tables; None reads none.
        environment: the environment variables.

    Raises:
        InvalidInputError: a value is outside its range, or a name is unknown; it says where the value came from.
    """
    in_file = {} if config_file is None else _toml(config_file)
    known = {*ServerSettings.model_fields, *MODEL_OPTIONS}
    if unknown := sorted(in_file.keys() - known):
        raise InvalidInputError(
            f"{config_file}: unknown settings {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    values: dict[str, Any] = {}
    origins, of_file = Origins(), f"file {config_file}"
    for name in known:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if flags.get(name) is not None:
            values[name], origins[name] = flags[name], "flag"
        elif environment.get(variable):
            text = environment[variable]
            values[name] = text.split(",") if name == "models" else text
            origins[name] = f"environment {variable}"
        elif name in in_file:
            values[name], origins[name] = in_file[name], of_file
        else:
            origins[name] = "default"
    for_all = {name: values.pop(name) for name in MODEL_OPTIONS if name in values}
    if "models" in values or for_all:
        # A model's table is of the file, so what a flag or a variable says of all models goes before it.
        first = {name: value for name, value in for_all.items() if origins[name] != of_file}
        values["models"] = _models(values.get("models", {"default": {"source": DEFAULT_MODEL}}), for_all, first)
    try:
        return ServerSettings.model_validate(values), origins
    except ValidationError as error:
        raise InvalidInputError(_in_words(error, origins)) from error


def describe_settings(settings: ServerSettings, origins: Origins) -> list[str]:
    """A line for each setting: its name, its value and where that came from."""
    lines = []
    for name in ServerSettings.model_fields:
        if name == "models":
            continue
        lines.append(f"{name} = {_shown(getattr(settings, name))}  ({origins.get(name, 'default')})")
    for name, model in settings.models.items():
        chosen = "".join(
            f", {option}={_shown(getattr(model, option))}"
            + (f" ({origins[option]})" if origins.get(option, "default") != "default" else "")
            for option in MODEL_OPTIONS
            if getattr(model, option) != ModelSettings.model_fields[option].default
        )
        lines.append(f"model {name} = {model.source}{chosen}  ({origins.get('models', 'default')})")
    return lines


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"the settings file {path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"the settings file {path} is no TOML: {error}") from error


def _models(given: Any, for_all: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """Models by name, from `[models.NAME]` tables or from a list of 'NAME=SOURCE'.

    Args:
        given: the tables or the list.
        for_all: options of all models.
        first: those of them that go before a model's own.
    """
    if isinstance(given, Mapping):
        named = {
            name: {"source": options} if isinstance(options, str) else dict(options) for name, options in given.items()
        }
    else:
        named = {}
        for item in given:
            name, equals, source = str(item).strip().partition("=")
            if not name or (equals and not source):
                raise InvalidInputError(f"model {item!r}: NAME=SOURCE or SOURCE expected")
            if name in named:
                raise InvalidInputError(f"two models are called {name!r}: give one another name, as NAME=SOURCE")
            named[name] = {"source": source or name}
    return {name: {"source": name, **for_all, **options, **first} for name, options in named.items()}


def _in_words(error: ValidationError, origins: Origins) -> str:
    problems = []
    for problem in error.errors():
        place = [str(part) for part in problem["loc"]]
        name = ".".join(place) or "settings"
        option = place[-1] if place else ""
        origin = origins.get(option, "default")
        if origin == "default":  # of a model's own table
            origin = origins.get(place[0] if place else "", "default")
        given = "" if isinstance(problem["input"], dict | BaseModel) else f"={problem['input']!r}"
        problems.append(f"{name}{given} ({origin}): {problem['msg']}")
    return "; ".join(problems)
