"""Scores kept in a folder, so that an evaluation or a tuning goes on where an earlier one was stopped.

A file holds one query's scores by one model: `MODEL/TEXTS.json`, named by the digest of the model with the options that
its scores and times depend on, and by the digest of the query's text with its candidates' texts. A change of any of
these is another file, and nothing is taken for what it is not. Files are written beside their place and renamed, so a
process that is killed leaves whole files only; what cannot be read is scored again.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.evaluation.output_file import write_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

_SCHEMA = 1
_NAME_CHARACTERS = 32


@dataclass(frozen=True)
class QueryScores:
    """One query's scores.

    Attributes:
        scores: float32 (candidates,), in the candidates' order.
        seconds: what scoring took: of an evaluation from the texts on, of a tuning from the encoded documents on.
    """

    scores: npt.NDArray[np.float32]
    seconds: float


class KeptScores:
    """A folder of scores; without one, nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, model: str, texts: str, count: int) -> QueryScores | None:
        """Scores that were kept; None where they were not.

        Args:
            model: digest of the model and its options.
            texts: digest of the query and its candidates.
            count: number of candidates.
        """
        if self._folder is None:
            return None
        try:
            record = json.loads(_path(self._folder, model, texts).read_text(encoding="utf-8"))
            head = (record["schema"], record["model"], record["texts"])
            scores = np.asarray(record["scores"], dtype=np.float32)
            seconds = float(record["seconds"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        usable = scores.shape == (count,) and np.isfinite(scores).all() and math.isfinite(seconds)
        return QueryScores(scores, seconds) if usable and head == (_SCHEMA, model, texts) else None

    def write(self, model: str, texts: str, entry: QueryScores) -> None:
        """Keep scores; arguments as for `read`."""
        if self._folder is None:
            return
        record = {
            "schema": _SCHEMA,
            "model": model,
            "texts": texts,
            "seconds": entry.seconds,
            "scores": entry.scores.tolist(),
        }
        write_file(_path(self._folder, model, texts), json.dumps(record))


def digest_of(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """SHA-256 of a value as JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _path(folder: Path, model: str, texts: str) -> Path:
    return folder / model[:_NAME_CHARACTERS] / f"{texts[:_NAME_CHARACTERS]}.json"
