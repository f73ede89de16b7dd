"""The logits every graph is measured against: PyTorch, in float32, with transformers' own tokenizer."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.engine.runtime.cores import available_cores
from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.quiet import quiet_libraries
from crossrank.export.checkpoint.tokenizer import load_transformers_tokenizer
from crossrank.export.checkpoint.torch_model import SEGMENTS, has_one_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from crossrank.export.checkpoint.checkpoint import Checkpoint


class TorchReference:
    """Scores pairs with the PyTorch checkpoint as transformers would."""

    def __init__(self, checkpoint: Checkpoint, model: Any) -> None:
        """Load the checkpoint's tokenizer.

        Args:
            checkpoint: what is scored with.
            model: the same as a PyTorch model in float32, from `load_torch_model`.

        Raises:
            UnsupportedCheckpointError: the tokenizer cannot be loaded, or cuts texts at their beginning.
        """
        self._checkpoint = checkpoint
        self._model = model
        self._tokenizer = load_transformers_tokenizer(checkpoint.folder, trust_remote_code=checkpoint.trust_remote_code)
        # Padding is masked, so its side changes no score; what is cut away does.
        self._tokenizer.padding_side = "right"
        if self._tokenizer.truncation_side != "right":
            raise UnsupportedCheckpointError(
                f"the tokenizer of {checkpoint.source.id} has truncation_side {self._tokenizer.truncation_side!r}: it "
                f"keeps the end of a long document, crossrank its beginning; where that is wanted all the same, set "
                f'"truncation_side": "right" in tokenizer_config.json'
            )

    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer as transformers runs it, for the artifact; truncation and padding taken off.

        transformers adjusts what a `tokenizer.json` says by its own settings (lower case, added tokens), so this one
        and not the file gives the token ids the model was trained on.
        """
        from tokenizers import Tokenizer

        copy = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        copy.no_truncation()
        copy.no_padding()
        return copy

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
            Logits, shape (n,); with two labels the positive one's minus the other's.

        Raises:
            UnsupportedCheckpointError: a logit is no number.
        """
        import torch

        found = np.empty(len(pairs), dtype=np.float32)
        done = itertools.count(batch_size, batch_size)

        def score(start: int, encoded: Any) -> None:
            with torch.inference_mode():
                logits = self._one_logit(self._model(**encoded).logits.numpy())
            found[start : start + len(logits)] = logits
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
        bad = int(np.count_nonzero(~np.isfinite(found)))
        if bad:
            raise UnsupportedCheckpointError(
                f"PyTorch itself gives NaN or infinity for {bad} of {len(pairs)} pairs with "
                f"{self._checkpoint.source.id}; numbers expected: its weights may hold NaN, look at them"
            )
        return found

    def _encode(self, pairs: Sequence[tuple[str, str]]) -> Any:
        encoded = self._tokenizer(
            [query for query, _ in pairs],
            [document for _, document in pairs],
            truncation="only_second",
            max_length=self._checkpoint.max_length,
            padding=len(pairs) > 1,
            return_tensors="pt",
        )
        if has_one_segment(self._model):
            encoded.pop(SEGMENTS, None)
        return encoded

    def _one_logit(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        positive = self._checkpoint.positive_label
        if self._checkpoint.num_labels == 1:
            return outputs[:, 0]
        return np.asarray(outputs[:, positive] - outputs[:, 1 - positive], dtype=np.float32)
