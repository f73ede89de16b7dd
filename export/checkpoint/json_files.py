"""Reading the JSON files of a checkpoint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crossrank.errors import UnsupportedCheckpointError

if TYPE_CHECKING:
    from pathlib import Path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where the file is not there.

    Raises:
        UnsupportedCheckpointError: the file is no JSON object.
    """
    content = read_json_value(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UnsupportedCheckpointError(f"{path} holds a {type(content).__name__}, a JSON object was expected")
    return content


def read_json_value(path: Path) -> Any:
    """What a JSON file holds, whatever it is; None where the file is not there.

    Raises:
        UnsupportedCheckpointError: the file is no JSON, or cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except RecursionError as error:
        raise UnsupportedCheckpointError(f"cannot read {path}: it is nested too deeply; JSON was expected") from error
    except PermissionError as error:
        raise UnsupportedCheckpointError(f"cannot read {path}: {error}; make it readable for this user") from error
    except (OSError, ValueError) as error:
        raise UnsupportedCheckpointError(f"cannot read {path}: {error}") from error


def shown(value: object) -> str:
    """What a JSON file holds, cut to what a message can take."""
    return f"{value!r:.60}"
