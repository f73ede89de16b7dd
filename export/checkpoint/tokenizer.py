"""Getting a checkpoint's fast tokenizer, and writing it without the truncation and padding training left in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.version import Version

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.json_files import read_json
from crossrank.export.checkpoint.newer_config import installed_transformers
from crossrank.export.checkpoint.source import refuse_pointer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tokenizers import Tokenizer

TOKENIZER_NAME = "tokenizer.json"
_TOKENIZER_FILES = (TOKENIZER_NAME, "vocab*", "*.model")
"""Files that tokenizers come in where they are no code of their own."""
_FIRST_WITH_LISTS = Version("5")
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")


def check_tokenizer_files(folder: Path, *, trust_remote_code: bool = False) -> None:
    """Make sure that a checkpoint folder has a tokenizer.

    Args:
        folder: the checkpoint.
        trust_remote_code: allow tokenizer code that comes with the checkpoint to run.

    Raises:
        UnsupportedCheckpointError: there is none, or it is code of the checkpoint's own.
    """
    if trust_remote_code:
        return
    if read_json(folder / "tokenizer_config.json").get("auto_map"):
        raise UnsupportedCheckpointError(
            f"the tokenizer of {folder} is Python code of its own; nothing of it runs unless you pass "
            f"trust_remote_code=True (--trust-remote-code)"
        )
    if not any(path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)):
        raise UnsupportedCheckpointError(
            f"{folder} has no tokenizer: none of {', '.join(_TOKENIZER_FILES)} is there; save the tokenizer the "
            f"checkpoint was trained with into it (tokenizer.save_pretrained)"
        )


def parse_tokenizer(path: Path) -> Tokenizer:
    """A `tokenizer.json` as it is, its truncation and padding included.

    Raises:
        UnsupportedCheckpointError: the file is missing or is no tokenizer.
    """
    from tokenizers import Tokenizer

    if not path.is_file():
        raise UnsupportedCheckpointError(f"there is no fast tokenizer: {path} is not there")
    refuse_pointer(path)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        # The Rust side raises plain Exception for a file it cannot read.
        raise UnsupportedCheckpointError(f"{path} is no tokenizer: {error}") from error


def load_transformers_tokenizer(
    folder: Path, *, trust_remote_code: bool = False, overrides: Mapping[str, Any] | None = None
) -> Any:
    """The checkpoint's tokenizer as transformers runs it (PreTrainedTokenizerFast).

    Args:
        folder: the checkpoint.
        trust_remote_code: allow tokenizer code that comes with the checkpoint to run.
        overrides: settings that go over those of the files.

    Raises:
        UnsupportedCheckpointError: there is none, or only a slow one that does not convert.
    """
    from crossrank.export.dependencies import require

    require(("transformers",), extra="export", purpose="reading a checkpoint's tokenizer")
    from transformers import AutoTokenizer

    from crossrank.export.checkpoint.quiet import quiet_libraries

    reason: object = "its class is slow and has no fast form"
    options = _extra_tokens_as_version_4_reads_them(folder) | dict(overrides or {})
    try:
        with quiet_libraries():
            tokenizer = AutoTokenizer.from_pretrained(
                folder,
                use_fast=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                **options,
            )
        if tokenizer.is_fast:
            return tokenizer
    except Exception as error:
        # Whatever transformers' converters meet comes out as it is.
        reason = error
    if (folder / TOKENIZER_NAME).is_file():
        raise UnsupportedCheckpointError(f"transformers cannot read the tokenizer of {folder}: {reason}")
    raise UnsupportedCheckpointError(
        f"{folder} has no fast tokenizer ({TOKENIZER_NAME}), and transformers could not make one: {reason}"
    )


def _extra_tokens_as_version_4_reads_them(folder: Path) -> dict[str, Any]:
    """Options for a list of `extra_special_tokens`, as transformers 5 writes it; version 4 expects an object there."""
    listed = read_json(folder / "tokenizer_config.json").get("extra_special_tokens")
    installed = installed_transformers()
    if not isinstance(listed, list) or installed is None or installed >= _FIRST_WITH_LISTS:
        return {}
    from tokenizers import AddedToken

    entries = [{"content": entry} if isinstance(entry, str) else entry for entry in listed]
    tokens = [
        AddedToken(entry["content"], special=True, **{flag: bool(entry[flag]) for flag in _FLAGS if flag in entry})
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("content"), str)
    ]
    return {"extra_special_tokens": {}, **({"additional_special_tokens": tokens} if tokens else {})}


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> str:
    """Write a tokenizer into an artifact folder.

    Returns:
        The name of the file.
    """
    path = folder / TOKENIZER_NAME
    path.write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    return path.name


def without_truncation(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer, without truncation and padding, which are settings of the training."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
