"""The engine as `CrossEncoder` needs it: logits of pairs, with a progress bar where one is wanted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.call.arguments import name_in
from crossrank.engine.call.calls import pairs_call
from crossrank.engine.call.drivers import wait_in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from crossrank.compat.inputs import Pairs

_log = logging.getLogger("crossrank")


class PairScorer(ArtifactReranker):
    """Gives logits. Where something is cut nobody is warned: sentence-transformers does not warn either."""

    def logits(
        self, pairs: Pairs, steps: Sequence[npt.NDArray[np.int64]], show_progress_bar: bool | None
    ) -> npt.NDArray[np.float32]:
        """Logits of pairs, float32 (n,).

        Args:
            pairs: n pairs.
            steps: for each step of a progress bar its pairs, all n together.
            show_progress_bar: whether to show one; None shows it where the logger 'crossrank' logs INFO or DEBUG.

        Raises:
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        if show_progress_bar is None:
            show_progress_bar = _log.getEffectiveLevel() in (logging.INFO, logging.DEBUG)
        if not show_progress_bar:
            return self._logits(pairs)
        from tqdm.auto import tqdm

        logits = np.empty(len(pairs), dtype=np.float32)
        for step in tqdm(steps, desc="Batches"):
            logits[step] = self._logits([pairs[index] for index in step.tolist()])
        return logits

    def _logits(self, pairs: Pairs) -> npt.NDArray[np.float32]:
        call = pairs_call(self._caller(), pairs)
        return call.complete_logits(wait_in_thread(call.scores(), call.encoders), name_in("inputs"))
