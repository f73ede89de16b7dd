"""The logits every graph of a checkpoint is measured against, by the library that saved it.

Nothing that the export has read is used here: the library reads the folder and the tokenizer by itself. Where
sentence-transformers is installed and saved the checkpoint, the reference is `CrossEncoder.predict`, otherwise the Auto
classes of transformers. The manifest and the report name it.
"""

from __future__ import annotations

import importlib.metadata
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from crossrank.engine.runtime.cores import available_cores
from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.quiet import quiet_libraries
from crossrank.export.checkpoint.torch_model import SEGMENTS
from crossrank.export.verify.reference_tokenizer import load_reference_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from crossrank.export.checkpoint.checkpoint import Checkpoint

_INPUT_IDS = "input_ids"


class Reference(Protocol):
    """What an export is measured against."""

    @property
    def description(self) -> str:
        """The library that scores, with its version, and how texts become token ids."""

    @property
    def cuts_longer_text(self) -> bool:
        """Whether it cuts whichever of query and document is longer; crossrank cuts the document alone."""

    def token_ids(self, pair: tuple[str, str]) -> tuple[list[int], list[int] | None]:
        """Token ids of one pair, and its segment ids where the model is given any."""

    def logits(
        self, pairs: Sequence[tuple[str, str]], *, advance: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        """The logit of each pair, before any activation; with several labels the log-odds of the positive one.

        NaN or infinity where the checkpoint gives no number: whoever asks decides whether that is a reason to refuse.
        """


class TorchReference:
    """Scores pairs with the PyTorch checkpoint as transformers would."""

    def __init__(self, checkpoint: Checkpoint, model: Any) -> None:
        """Load the checkpoint's tokenizer.

        Args:
            checkpoint: what is scored with.
            model: the same as a PyTorch model in float32, from `load_torch_model(checkpoint, for_export=False)`;
                None where only token ids are asked for.

        Raises:
            UnsupportedCheckpointError: the tokenizer cannot be loaded, or cuts texts at their beginning.
        """
        self._checkpoint = checkpoint
        self._model = model
        self._tokenizer, self._way = load_reference_tokenizer(checkpoint)
        # Padding is masked, so its side changes no score; what is cut away does.
        self._tokenizer.padding_side = "right"

    cuts_longer_text = False

    @property
    def description(self) -> str:
        """The version of transformers, and how texts become token ids."""
        version = importlib.metadata.version("transformers")
        changed = ", ".join(self._checkpoint.config_changes.values)
        translated = f", given {changed} as config.json means them" if changed else ""
        of_modules = "AutoModel, the modules behind it computed in numpy"
        loaded_by = of_modules if self._checkpoint.head else "AutoModelForSequenceClassification"
        return f"transformers {version} {loaded_by}{translated}, ids by {self._way}"

    def token_ids(self, pair: tuple[str, str]) -> tuple[list[int], list[int] | None]:
        """Token ids of one pair, and its segment ids where the model is given any."""
        with quiet_libraries():
            encoded = self._encode([pair])
        segments = encoded[SEGMENTS][0].tolist() if SEGMENTS in encoded else None
        return encoded[_INPUT_IDS][0].tolist(), segments

    def logits(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        batch_size: int = 1,
        advance: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """The logit of each pair, before any activation.

        Args:
            pairs: (query, document) pairs; a document is cut where the pair is too long.
            batch_size: pairs of one forward pass, padded to the longest of them.
            advance: called with (pairs done, pairs in all) after each pass, in a worker thread.

        Returns:
            Logits, shape (n,); with several labels the log-odds of the positive one. NaN or infinity where the
            checkpoint gives no number.
        """
        import torch

        scored = np.empty(len(pairs), dtype=np.float32)
        done = itertools.count(batch_size, batch_size)

        def score(start: int, encoded: Any) -> None:
            with torch.inference_mode():
                logits = one_logit(self._outputs(encoded), self._checkpoint)
            scored[start : start + len(logits)] = logits
            if advance is not None:
                advance(min(next(done), len(pairs)), len(pairs))

        # One thread an operator and one batch a core: no waiting at barriers, which on a busy machine takes longer
        # than the work, and figures that do not depend on the number of cores. The tokenizer stays in this thread:
        # transformers' are not safe to share.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        pool = ThreadPoolExecutor(available_cores(), initializer=torch.set_num_threads, initargs=(1,))
        try:
            with quiet_libraries():
                starts = range(0, len(pairs), batch_size)
                futures = [
                    pool.submit(score, start, self._encode(pairs[start : start + batch_size])) for start in starts
                ]
                for future in futures:
                    future.result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
        return scored

    def _outputs(self, encoded: Any) -> NDArray[np.float32]:
        try:
            return np.asarray(self._model(**encoded).logits.numpy(), dtype=np.float32)
        except (MemoryError, OSError):
            raise
        except Exception as error:
            # A model that is code of the checkpoint's own may raise anything.
            raise UnsupportedCheckpointError(
                f"the model of {self._checkpoint.source.id} itself fails on a pair, given {', '.join(encoded)}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _encode(self, pairs: Sequence[tuple[str, str]]) -> Any:
        encoded = self._tokenizer(
            [query for query, _ in pairs],
            [document for _, document in pairs],
            truncation="only_second",
            max_length=self._checkpoint.max_length,
            padding=len(pairs) > 1,
            return_tensors="pt",
        )
        # Tokenizers of its family may number a second segment, for which a model of one has no embedding.
        if self._checkpoint.config.get("type_vocab_size") == 1:
            encoded.pop(SEGMENTS, None)
        return encoded


def one_logit(outputs: NDArray[np.float32], checkpoint: Checkpoint) -> NDArray[np.float32]:
    """The logit of each row, float32 (n, labels) to float32 (n,)."""
    if checkpoint.num_labels == 1:
        return outputs.reshape(len(outputs), -1)[:, 0]
    return log_odds(outputs, checkpoint.positive_label)


def log_odds(outputs: NDArray[np.float32], positive: int) -> NDArray[np.float32]:
    """The logarithm of the odds of a label by the softmax over all, float32 (n, labels) to float32 (n,).

    By the probabilities, unlike the engine, which subtracts logits.
    """
    wide = outputs.astype(np.float64)
    if wide.shape[1] == 2:  # noqa: PLR2004
        return np.asarray(wide[:, positive] - wide[:, 1 - positive], dtype=np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = np.exp(wide - wide.max(axis=1, keepdims=True))
        odds = weights[:, positive] / np.delete(weights, positive, axis=1).sum(axis=1)
        return np.asarray(np.log(odds), dtype=np.float32)


def refuse_no_numbers(logits: NDArray[np.float32], reference: Reference, name: str) -> None:
    """Refuse a checkpoint for which its reference gives NaN or infinity.

    Args:
        logits: what the reference gives.
        reference: the library that scored.
        name: the checkpoint's.

    Raises:
        UnsupportedCheckpointError: a logit is NaN or infinite.
    """
    bad = int(np.count_nonzero(~np.isfinite(logits)))
    if bad:
        raise UnsupportedCheckpointError(
            f"{name} itself gives NaN or infinity for {bad} of {len(logits)} pairs, scored by {reference.description}; "
            f"numbers expected: its weights may hold NaN, look at them"
        )
