"""Logits by sentence-transformers' own `CrossEncoder.predict`, for checkpoints it saved, where it is installed."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from packaging.version import InvalidVersion, Version

from crossrank.engine.runtime.logits import activate
from crossrank.errors import FidelityError, UnsupportedCheckpointError
from crossrank.export.checkpoint.json_files import read_json
from crossrank.export.checkpoint.newer_config import installed_transformers, saved_version
from crossrank.export.checkpoint.quiet import quiet_libraries
from crossrank.export.checkpoint.sentence_transformers import SETTINGS
from crossrank.export.verify.reference import one_logit
from crossrank.export.verify.verification import rounding_scale

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from crossrank.export.checkpoint.checkpoint import Checkpoint
    from crossrank.export.verify.reference import TorchReference

_BATCH = 16
_MAX_SCORE_DIFFERENCE = 1e-3
"""More than logits may differ, less than one activation differs from another."""


def suits_cross_encoder(checkpoint: Checkpoint) -> bool:
    """Tell whether `CrossEncoder` saved the checkpoint, is installed, and reads it as it was saved.

    An older version than the one that saved it, or one on an older transformers, may misread it without an error.
    """
    if not checkpoint.sentence_transformers.applies:
        return False
    try:
        installed = Version(importlib.metadata.version("sentence-transformers"))
    except (importlib.metadata.PackageNotFoundError, InvalidVersion):
        return False
    saved, transformers = saved_version(checkpoint.config), installed_transformers()
    if saved is not None and (transformers is None or saved > transformers):
        return False
    if not checkpoint.sentence_transformers.has_modules:
        return True
    versions = read_json(checkpoint.folder / SETTINGS).get("__version__")
    try:
        return installed >= Version(str(versions["sentence_transformers"]))  # type: ignore[index]
    except (InvalidVersion, KeyError, TypeError):
        return False


class CrossEncoderReference:
    """Scores pairs as `CrossEncoder.predict` does, one forward pass a batch."""

    def __init__(self, checkpoint: Checkpoint, ids: TorchReference) -> None:
        """Load the checkpoint.

        Args:
            checkpoint: what is scored with.
            ids: gives the token ids, which `CrossEncoder` gives in another way in each version.

        Raises:
            UnsupportedCheckpointError: sentence-transformers cannot load it.
        """
        self._checkpoint = checkpoint
        self._ids = ids
        self._model = _load(checkpoint)

    @property
    def cuts_longer_text(self) -> bool:
        """Whether it cuts whichever of query and document is longer."""
        return self._checkpoint.sentence_transformers.cuts_longer_text

    @property
    def description(self) -> str:
        """The versions of sentence-transformers and of transformers below it."""
        version = importlib.metadata.version("sentence-transformers")
        return f"sentence-transformers {version} CrossEncoder.predict on transformers {_transformers()}"

    def token_ids(self, pair: tuple[str, str]) -> tuple[list[int], list[int] | None]:
        """Token ids of one pair, and its segment ids where the model is given any."""
        return self._ids.token_ids(pair)

    def logits(
        self, pairs: Sequence[tuple[str, str]], *, advance: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        """The logit of each pair, before any activation; with several labels the log-odds of the positive one.

        Args:
            pairs: (query, document) pairs.
            advance: called with (pairs done, pairs in all) after each batch.

        Returns:
            Logits, shape (n,); NaN or infinity where the checkpoint gives no number.

        Raises:
            UnsupportedCheckpointError: `predict` fails on a pair.
        """
        import torch

        parts: list[NDArray[np.float32]] = []
        for start in range(0, len(pairs), _BATCH):
            some = [list(pair) for pair in pairs[start : start + _BATCH]]
            outputs = self._predict(some, activation_fn=torch.nn.Identity())
            parts.append(one_logit(outputs, self._checkpoint))
            if advance is not None:
                advance(start + len(some), len(pairs))
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def check_activation(self, pairs: Sequence[tuple[str, str]], logits: NDArray[np.float32]) -> None:
        """Compare scores after the activation that the export read with those of `predict`, which reads it by itself.

        Not where caller or catalogue state another, nor with several labels, of which `predict` gives all.

        Args:
            pairs: n (query, document) pairs.
            logits: of the export's graph, float32 (n,).

        Raises:
            FidelityError: they differ.
            UnsupportedCheckpointError: `predict` fails on a pair.
        """
        read = self._checkpoint.activation_read and self._checkpoint.num_labels == 1
        if not read or not pairs:
            return
        theirs = self._predict([list(pair) for pair in pairs]).reshape(len(pairs))
        name = self._checkpoint.activation
        difference = float(np.max(np.abs(activate(logits, name) - theirs)))
        if not difference <= _MAX_SCORE_DIFFERENCE * rounding_scale(theirs):
            raise FidelityError(
                f"the activation {name} was read from the checkpoint, and {self.description} applies another: scores "
                f"differ by {difference:g}; state the one you want with activation (--activation)"
            )

    def _predict(self, pairs: list[list[str]], **options: Any) -> NDArray[np.float32]:
        """What `predict` gives.

        Raises:
            UnsupportedCheckpointError: the model fails; code of the checkpoint's own may raise anything.
        """
        try:
            with quiet_libraries():
                outputs = self._model.predict(pairs, batch_size=1, show_progress_bar=False, **options)
        except (MemoryError, OSError):
            raise
        except Exception as error:
            raise UnsupportedCheckpointError(
                f"{self._checkpoint.source.id} itself fails in CrossEncoder.predict ({self.description}): "
                f"{type(error).__name__}: {error}"
            ) from error
        return np.asarray(outputs, dtype=np.float32)


def _load(checkpoint: Checkpoint) -> Any:
    import torch
    from sentence_transformers import CrossEncoder

    # Its own limit unless the caller stated another, so that one the export misread shows.
    length = checkpoint.max_length if checkpoint.length_stated else None
    try:
        with quiet_libraries():
            model = CrossEncoder(
                str(checkpoint.folder),
                max_length=length,
                device="cpu",
                trust_remote_code=checkpoint.trust_remote_code,
                local_files_only=True,
                model_kwargs={"torch_dtype": torch.float32},
            )
            if length is not None and checkpoint.sentence_transformers.has_modules:
                # What a checkpoint gives every call of its tokenizer goes over the limit of the model.
                for options in getattr(model[0], "processing_kwargs", {}).values():
                    options.pop("max_length", None)
            return model
    except MemoryError:
        raise
    except Exception as error:
        raise UnsupportedCheckpointError(
            f"sentence-transformers {importlib.metadata.version('sentence-transformers')}, which saved the checkpoint "
            f"or an older version of which did, cannot load {checkpoint.folder}: {error}"
        ) from error


def _transformers() -> str:
    return importlib.metadata.version("transformers")
