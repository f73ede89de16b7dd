"""Fixtures for tests of finding models: an empty cache, and an exporter that only counts calls."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of exports made on demand, empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CROSSRANK_CACHE", str(folder))
    return folder


@pytest.fixture
def exports(tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Replace the exporter by one that copies the tiny artifact; the list has each call's checkpoint and options."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def export(checkpoint: str, out: Path, **options: Any) -> None:
        calls.append((checkpoint, options))
        shutil.copytree(tiny_artifact, out)

    monkeypatch.setattr("crossrank.export.pipeline.export", export)
    return calls


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, str | None]]]:
    """A function that pretends a hub with commits for some revisions, or an unreachable one; returns its look-ups."""
    from crossrank.errors import ModelNotFoundError
    from crossrank.export.checkpoint.source import CheckpointSource

    def pretend(commits: dict[str | None, str] | None) -> list[tuple[str, str | None]]:
        asked: list[tuple[str, str | None]] = []

        def find_source(source: str, *, revision: str | None = None, **_: object) -> CheckpointSource:
            asked.append((source, revision))
            if commits is None:
                raise ModelNotFoundError("the hub is out of reach")
            return CheckpointSource(kind="hub", id=source, folder=Path(), revision=commits[revision])

        monkeypatch.setattr("crossrank.export.checkpoint.source.find_source", find_source)
        return asked

    return pretend
