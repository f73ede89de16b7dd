"""Reads an artifact: its manifest and its files, which are compared with what the manifest records.

An artifact is a folder with `manifest.json`, a tokenizer and ONNX graphs. Opening one checks the schema; the bytes of
a file are checked before it is used, so a damaged graph is refused by name and unused files cost no time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from crossrank.errors import ArtifactError
from crossrank.models.manifest import SCHEMA_VERSION, FileRecord, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crossrank.models.manifest import Graph, Precision, Provider

MANIFEST_NAME = "manifest.json"


def is_artifact(folder: Path) -> bool:
    """Tell whether a folder claims to be an artifact (it has a manifest; whether it is valid is another question)."""
    return (folder / MANIFEST_NAME).is_file()


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, as lower-case hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def record_files(folder: Path, paths: Iterable[str]) -> tuple[FileRecord, ...]:
    """Size and digest of files in a folder, sorted by path.

    Args:
        folder: the artifact's folder.
        paths: paths relative to it, with forward slashes.

    Raises:
        FileNotFoundError: a file does not exist.
    """
    return tuple(
        FileRecord(path=path, size=(folder / path).stat().st_size, sha256=sha256_of(folder / path))
        for path in sorted(paths)
    )


@dataclass(frozen=True)
class Artifact:
    """An opened artifact.

    Attributes:
        folder: the folder on disk.
        manifest: the validated manifest.
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | Path) -> Artifact:
        """Read and validate the manifest of an artifact folder.

        Args:
            folder: the artifact's folder.

        Raises:
            ArtifactError: the folder or its manifest is missing, is not JSON, or does not fit the schema.
        """
        folder = Path(folder)
        path = folder / MANIFEST_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ArtifactError(
                f"{folder} is no artifact (no {MANIFEST_NAME}); make one with 'crossrank export CHECKPOINT {folder}'"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"cannot read {path}: {error}") from error
        return cls(folder=folder, manifest=_parse(text, path))

    def path(self, relative: str) -> Path:
        """Path on disk of a file that the manifest names."""
        return self.folder / relative

    def find_graph(self, precision: Precision, provider: Provider) -> Graph | None:
        """The graph that has this precision and was made for this provider, or None."""
        for graph in self.manifest.graphs:
            if graph.precision == precision and provider in graph.providers:
                return graph
        return None

    def verify(self, paths: Iterable[str] | None = None) -> None:
        """Compare files with the manifest's sizes and digests.

        Args:
            paths: files to check, as the manifest names them; None checks all of them.

        Raises:
            ArtifactError: a file is not in the manifest, is missing, is not a regular file, or its bytes differ; the
                message names it.
        """
        records = {record.path: record for record in self.manifest.files}
        for path in records if paths is None else paths:
            if path not in records:
                raise ArtifactError(f"the manifest of artifact {self.folder} records no file {path!r}")
            self._verify_file(records[path])

    def _verify_file(self, record: FileRecord) -> None:
        path = self.path(record.path)
        fix = "export the artifact again or copy it anew"
        try:
            size = path.stat().st_size if path.is_file() else None
        except OSError as error:
            raise ArtifactError(f"cannot read {path}: {error}; {fix}") from error
        if size is None:
            raise ArtifactError(f"artifact {self.folder} lacks the file {record.path!r} its manifest records; {fix}")
        if size != record.size:
            raise ArtifactError(
                f"file {record.path!r} of artifact {self.folder} has {size} bytes, {record.size} expected; {fix}"
            )
        digest = sha256_of(path)
        if digest != record.sha256:
            raise ArtifactError(
                f"file {record.path!r} of artifact {self.folder} was altered: sha256 {digest}, "
                f"{record.sha256} expected; {fix}"
            )


def _parse(text: str, path: Path) -> Manifest:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:  # beyond JSONDecodeError: numbers too long, brackets nested too deep
        raise ArtifactError(f"{path} is not JSON ({error}); export the artifact again or copy it anew") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise ArtifactError(f"{path} is no crossrank manifest: it has no schema_version")
    if version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {version}, this crossrank reads up to {SCHEMA_VERSION}; update crossrank"
        )
    if version < 1:
        raise ArtifactError(f"{path} has schema version {version}, 1 to {SCHEMA_VERSION} expected")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'manifest'}: {item['msg']}" for item in error.errors()[:5]
        )
        raise ArtifactError(f"{path} does not fit the manifest schema: {problems}") from error
