"""Python code that comes with a checkpoint: what of it would run, and what is missing.

Nothing here runs it. transformers does, when it loads the checkpoint with the caller's consent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.json_files import read_json, shown
from crossrank.export.hub.client import download_matching
from crossrank.models.artifact import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossrank.export.checkpoint.source import CheckpointSource

# Keys of `auto_map`, each the name of the class of transformers that loads what stands under it.
_WITH_HEAD, _WITHOUT_HEAD = "AutoModelForSequenceClassification", "AutoModel"
_TOKENIZER_CLASS = "AutoTokenizer"
_CONFIG = "config.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_PYTHON = ("*.py",)
_ELSEWHERE = "--"
"""Between the repository that has the code and the class, where that is another than the checkpoint's."""


def read_code(
    where: CheckpointSource,
    config: Mapping[str, Any],
    *,
    trusted: bool,
    has_modules: bool = False,
    local_files_only: bool = False,
) -> dict[str, str]:
    """The Python files that loading a checkpoint's model and tokenizer runs; code in another hub repository is fetched.

    Args:
        where: the checkpoint.
        config: its `config.json`.
        trusted: whether the caller allows its code to run.
        has_modules: whether modules follow a transformer without a head.
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
    model_classes = config.get("auto_map") or {}
    named = _references(model_classes, _CONFIG, where.id)
    named |= _references(read_json(where.folder / _TOKENIZER_CONFIG).get("auto_map") or {}, _TOKENIZER_CONFIG, where.id)
    if not named:
        return {}
    keys = ", ".join(sorted({key for key, _ in named.values()}))
    if not trusted:
        raise UnsupportedCheckpointError(
            f"{where.id} brings Python code of its own ({keys}); nothing of it runs "
            f"unless you pass trust_remote_code=True (--trust-remote-code)"
        )
    loaded_by = _WITHOUT_HEAD if has_modules else _WITH_HEAD
    if model_classes and loaded_by not in model_classes:
        raise UnsupportedCheckpointError(
            f"{where.id} brings code for {', '.join(sorted(model_classes))} and none for {loaded_by}, which loads "
            f"{'the transformer before its modules' if has_modules else 'a cross-encoder'}; the auto_map of its "
            f"config.json lacks that"
        )
    digests: dict[str, str] = {}
    for reference, (_, config_file) in named.items():
        repository, elsewhere, path = reference.rpartition(_ELSEWHERE)
        file = f"{path.rpartition('.')[0]}.py"
        folder, prefix = where.folder, ""
        if elsewhere and repository != where.id:
            folder = download_matching(repository, None, _PYTHON, local_files_only=local_files_only)
            prefix = f"{repository}@{folder.name}/"
        if not (folder / file).is_file():
            raise UnsupportedCheckpointError(
                f"{where.id} names the class {reference} (auto_map of its {config_file}), and {prefix}{file} is not "
                f"there; copy it beside {config_file}"
            )
        # A module may import those beside it.
        digests |= {f"{prefix}{found.name}": sha256_of(found) for found in sorted(folder.glob(*_PYTHON))}
    return dict(sorted(digests.items()))


def _references(auto_map: object, file: str, name: str) -> dict[str, tuple[str, str]]:
    """The classes that an `auto_map` names, each with the key it stands under and the file that has the map."""
    # Older tokenizers have a bare list in the place of the mapping.
    classes = auto_map if isinstance(auto_map, dict) else {_TOKENIZER_CLASS: auto_map}
    found = {}
    for key, value in classes.items():
        # Of a tokenizer the slow class and the fast one, of which one may be null.
        several = value if key == _TOKENIZER_CLASS and isinstance(value, list) else [value]
        for reference in filter(None, several) if several is value else several:
            if not isinstance(reference, str) or "." not in reference.rpartition(_ELSEWHERE)[2]:
                raise UnsupportedCheckpointError(
                    f"{file} of {name} has {shown(value)} for {key} in its auto_map; a class such as "
                    f"'modeling.Reranker' expected"
                )
            found[reference] = key, file
    return found
