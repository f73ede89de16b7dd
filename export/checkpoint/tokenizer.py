"""Getting a checkpoint's fast tokenizer, and writing it without the truncation and padding training left in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.source import refuse_pointer
from crossrank.export.checkpoint.transformer_config import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

TOKENIZER_NAME = "tokenizer.json"
_TOKENIZER_FILES = (TOKENIZER_NAME, "vocab*", "*.model")
"""Files that tokenizers come in where they are no code of their own."""


def read_fast_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Tokenizer:
    """The tokenizer of a checkpoint folder, from its `tokenizer.json` or converted from its slow one.

    Args:
        folder: the checkpoint.
        trust_remote_code: allow tokenizer code that comes with the checkpoint to run.

    Raises:
        UnsupportedCheckpointError: there is no tokenizer, it is damaged, it is only code, or it cannot be converted.
    """
    if read_json(folder / "tokenizer_config.json").get("auto_map") and not trust_remote_code:
        raise UnsupportedCheckpointError(
            f"the tokenizer of {folder} is Python code of its own; nothing of it runs unless you pass "
            f"trust_remote_code=True (--trust-remote-code)"
        )
    if not trust_remote_code and not any(path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)):
        raise UnsupportedCheckpointError(
            f"{folder} has no tokenizer: none of {', '.join(_TOKENIZER_FILES)} is there; save the tokenizer the "
            f"checkpoint was trained with into it (tokenizer.save_pretrained)"
        )
    if (folder / TOKENIZER_NAME).is_file():
        return read_tokenizer_file(folder / TOKENIZER_NAME)
    backend = load_transformers_tokenizer(folder, trust_remote_code=trust_remote_code).backend_tokenizer
    return _without_truncation(backend)


def read_tokenizer_file(path: Path) -> Tokenizer:
    """A `tokenizer.json`, with its truncation and padding taken off.

    Raises:
        UnsupportedCheckpointError: the file is missing or is no tokenizer.
    """
    from tokenizers import Tokenizer

    if not path.is_file():
        raise UnsupportedCheckpointError(f"there is no fast tokenizer: {path} is not there")
    refuse_pointer(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        # The Rust side raises plain Exception for a file it cannot read.
        raise UnsupportedCheckpointError(f"{path} is no tokenizer: {error}") from error
    return _without_truncation(tokenizer)


def load_transformers_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The checkpoint's tokenizer as transformers runs it (PreTrainedTokenizerFast).

    Raises:
        UnsupportedCheckpointError: there is none, or only a slow one that does not convert.
    """
    from crossrank.export.dependencies import require

    require(("transformers",), extra="export", purpose="reading a checkpoint's tokenizer")
    from transformers import AutoTokenizer

    from crossrank.export.checkpoint.quiet import quiet_libraries

    reason: object = "it has only a slow tokenizer"
    try:
        with quiet_libraries():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, use_fast=True, local_files_only=True, trust_remote_code=trust_remote_code
            )
        if tokenizer.is_fast:
            return tokenizer
    except Exception as error:
        # Whatever transformers' converters meet comes out as it is.
        reason = error
    raise UnsupportedCheckpointError(
        f"{folder} has no fast tokenizer ({TOKENIZER_NAME}), and transformers could not make one: {reason}"
    )


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> str:
    """Write a tokenizer into an artifact folder.

    Returns:
        The name of the file.
    """
    path = folder / TOKENIZER_NAME
    path.write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    return path.name


def _without_truncation(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
