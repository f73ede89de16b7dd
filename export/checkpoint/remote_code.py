"""Python code that comes with a checkpoint: what of it would run, and what is missing.

Nothing here runs it. transformers does, when it loads the checkpoint with the caller's consent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.json_files import shown
from crossrank.export.hub.client import download_matching
from crossrank.models.artifact import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossrank.export.checkpoint.source import CheckpointSource

MODEL_CLASS = "AutoModelForSequenceClassification"
"""The key of `auto_map` under which a checkpoint's own cross-encoder is."""

_PYTHON = ("*.py",)
_ELSEWHERE = "--"
"""Between the repository that has the code and the class, where that is another than the checkpoint's."""


def read_code(
    where: CheckpointSource, config: Mapping[str, Any], *, trusted: bool, local_files_only: bool = False
) -> dict[str, str]:
    """The Python files that loading a checkpoint runs; code in another hub repository is fetched.

    Args:
        where: the checkpoint.
        config: its `config.json`.
        trusted: whether the caller allows its code to run.
        local_files_only: fetch nothing; the code must be in the hub's cache.

    Returns:
        The sha256 of every file, by its path: `modeling.py`, or `owner/name@commit/modeling.py` of another repository.
        Empty where the checkpoint brings no code.

    Raises:
        UnsupportedCheckpointError: it brings code and the caller does not allow it, or the code has no cross-encoder,
            or a file of it is not there.
        ModelNotFoundError: another repository has the code, and cannot be had.
        CacheFolderError: huggingface-hub has no folder that can be written.
    """
    classes = config.get("auto_map") or {}
    if not classes:
        return {}
    named = {key: _reference(key, value, where.id) for key, value in classes.items()}
    if not trusted:
        raise UnsupportedCheckpointError(
            f"{where.id} brings Python code of its own ({', '.join(sorted(classes))}); nothing of it runs "
            f"unless you pass trust_remote_code=True (--trust-remote-code)"
        )
    if MODEL_CLASS not in classes:
        raise UnsupportedCheckpointError(
            f"{where.id} brings code for {', '.join(sorted(classes))} and none for {MODEL_CLASS}, which loads a "
            f"cross-encoder; the auto_map of its config.json lacks that"
        )
    digests: dict[str, str] = {}
    for reference in named.values():
        repository, elsewhere, path = reference.rpartition(_ELSEWHERE)
        file = f"{path.rpartition('.')[0]}.py"
        folder, prefix = where.folder, ""
        if elsewhere and repository != where.id:
            folder = download_matching(repository, None, _PYTHON, local_files_only=local_files_only)
            prefix = f"{repository}@{folder.name}/"
        if not (folder / file).is_file():
            raise UnsupportedCheckpointError(
                f"{where.id} names the class {reference} (auto_map of its config.json), and {prefix}{file} is not "
                f"there; copy it beside config.json"
            )
        # A module may import those beside it.
        digests |= {f"{prefix}{found.name}": sha256_of(found) for found in sorted(folder.glob(*_PYTHON))}
    return dict(sorted(digests.items()))


def _reference(key: str, value: object, name: str) -> str:
    if not isinstance(value, str) or "." not in value.rpartition(_ELSEWHERE)[2]:
        raise UnsupportedCheckpointError(
            f"config.json of {name} has {shown(value)} for {key} in its auto_map; a class such as 'modeling.Reranker' "
            f"expected"
        )
    return value
