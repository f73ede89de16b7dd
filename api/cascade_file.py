"""Cascades as TOML files with a `[[stage]]` table for each stage."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.errors import InvalidInputError
from crossrank.models.embedded import DEFAULT_CASCADE, DEFAULT_CASCADE_OF_ONE_MODEL, DEFAULT_MODEL, EMBEDDED_MODELS
from crossrank.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crossrank.models.manifest import PrecisionChoice, ProviderChoice

_KEYS = {"model": str, "keep": int, "max_length": int}


def default_cascade_file(provider: ProviderChoice, precision: PrecisionChoice) -> Path:
    """The file of the default cascade: of all embedded models where each has a graph, else of `default` alone.

    Args:
        provider: that the stages are to run on.
        precision: of their graphs.

    Raises:
        ProviderError: CUDA was asked for and does not work here.
        MissingDependencyError: onnxruntime is not installed.
    """
    from crossrank.engine.runtime.providers import choose_provider

    if precision in ("auto", "int8") and choose_provider(provider).provider == "cpu":
        return DEFAULT_CASCADE
    return DEFAULT_CASCADE_OF_ONE_MODEL


def read_stages(file: Path) -> list[Stage]:
    """Read the stages of a cascade.

    Args:
        file: path. If a model's name is a folder beside the file, that folder is used.

    Raises:
        InvalidInputError: the file does not exist, is not TOML, or holds something other than stages.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"cannot read the cascade {file}: {error.strerror or error}") from error
    except ValueError as error:  # TOML, or UTF-8
        raise InvalidInputError(f"cascade {file} is not TOML: {error}") from error
    tables = content.pop("stage", None)
    if content or not isinstance(tables, list) or not tables:
        raise InvalidInputError(f"cascade {file}: [[stage]] tables and nothing else expected, found {sorted(content)}")
    return [_stage(file, number, table) for number, table in enumerate(tables, start=1)]


def stages_as_toml(stages: Sequence[Stage], comment: str = "") -> str:
    """Stages as `read_stages` reads them.

    Args:
        stages: the stages; their models must be names or paths.
        comment: lines to put first, as TOML comments.

    Raises:
        InvalidInputError: a stage's model is a reranker, which cannot be written to a file.
    """
    parts = ["".join(f"# {line}\n" for line in comment.splitlines())] if comment else []
    for stage in stages:
        if isinstance(stage.model, ArtifactReranker):
            raise InvalidInputError("a stage's model is a reranker: a name or a path expected, to write it to a file")
        # JSON's strings are TOML's basic strings too.
        lines = ["[[stage]]", f"model = {json.dumps(str(stage.model))}"]
        if stage.max_length is not None:
            lines.append(f"max_length = {stage.max_length}")
        if stage.keep is not None:
            lines.append(f"keep = {stage.keep}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _stage(file: Path, number: int, table: Any) -> Stage:
    if not isinstance(table, dict):
        raise InvalidInputError(f"cascade {file}, stage {number}: a [[stage]] table expected")
    for name, value in table.items():
        if name not in _KEYS or type(value) is not _KEYS[name]:
            expected = ", ".join(f"{key} ({kind.__name__})" for key, kind in _KEYS.items())
            raise InvalidInputError(f"cascade {file}, stage {number}: {name} = {value!r}; expected are {expected}")
    options = dict(table)
    model = options.pop("model", DEFAULT_MODEL)
    folder = file.parent / model
    return Stage(folder if model not in EMBEDDED_MODELS and folder.is_dir() else model, **options)
